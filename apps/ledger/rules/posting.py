"""Entries posted to a draft: replay, accounts, business time, funds, and then the lines."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from apps.core.ids import encode_id
from apps.ledger import errors
from apps.ledger.rules import checks
from apps.ledger.rules.draft import Draft
from apps.ledger.rules.values import (
    BalanceState,
    BrokenFloor,
    Command,
    KnownEntry,
    Outcome,
    PostedLine,
    PostEntry,
    State,
    Transfer,
)

# Clocks of two servers differ by so much at most: what has no business time of its own happens
# when it is decided, and never a moment before what its accounts have seen already.
CLOCK_SKEW: Final = timedelta(seconds=5)

# By as much the server's clock may step back: reads of the past find times by versions, which
# follow it (docs/adr/0070).
CLOCK_STEP_MAX: Final = timedelta(hours=1)

type Legs = Sequence[tuple[UUID, int, str]]


def transfer(draft: Draft, command: Transfer) -> Outcome:
    """
    The path of thousands: the same checks as for any entry, written for two legs.

    What it lets through without more is in SQL too (`kassa_takes_transfer`, docs/adr/0178), and for
    whole batches in `plain` (docs/adr/0189).
    """
    currency, amount, reference = command.currency, command.amount_minor, command.reference
    known = _known(draft, reference) if reference else None
    if known is not None:
        return _replay_transfer(command, known)
    debit = checks.account(draft.state, command.debit_account_id, currency)
    credit = checks.account(draft.state, command.credit_account_id, currency)
    if debit is credit:
        raise checks.same_account(debit.id)
    at = effective_at(draft, command.effective_at, debit, credit)
    if command.up_to:
        amount = _affordable(draft, command, at, debit, credit)
    if debit.credit_normal:
        checks.outflow(debit, amount)
    if not credit.credit_normal:
        checks.outflow(credit, amount)
    checks.room(debit, amount)
    checks.room(credit, -amount)
    if draft.later:
        since = _checked_from(draft, at, force=command.force)
        check_later(draft, debit, amount, since)
        check_later(draft, credit, -amount, since)
    broken = _broken(draft, ((debit, amount), (credit, -amount)), at) if command.force else ()
    lines = (post_line(draft, debit, amount, at), post_line(draft, credit, -amount, at))
    if reference:
        legs = ((debit.id, amount, currency), (credit.id, -amount, currency))
        draft.known[reference] = KnownEntry(command.id, legs)
    return Outcome(command, "posted", command.id, lines, None, at, broken=broken)


def _known(draft: Draft, reference: str) -> KnownEntry | None:
    checks.reference(reference, reach_internal=draft.state.reach_internal)
    return draft.known.get(reference)


def _replay_transfer(command: Transfer, known: KnownEntry) -> Outcome:
    amount = command.amount_minor
    if command.up_to and known.legs:
        # As much as there was then is the answer, if it is one that could have been given.
        amount = min(amount, abs(known.legs[0][1]))
    legs = (
        (command.debit_account_id, amount, command.currency),
        (command.credit_account_id, -amount, command.currency),
    )
    return replay(command, known, legs)


def _affordable(
    draft: Draft, command: Transfer, at: datetime | None, debit: BalanceState, credit: BalanceState
) -> int:
    """Return how much of the asked amount both floors allow; at least 1, or it is refused."""
    today = most = command.amount_minor
    since = _checked_from(draft, at, force=command.force)
    for balance, leaves in ((debit, debit.credit_normal), (credit, not credit.credit_normal)):
        floor = balance.min_available_minor
        if not leaves or floor is None:
            continue
        today = min(today, max(balance.available - floor, 0))
        later = draft.later.get(balance.id)
        if later is not None and since is not None:
            low, _ = checks.lowest(later, balance, since, now=draft.now)
            most = min(most, max(low - floor, 0))
    # Where nothing may leave the ordinary checks say why: nothing is available today, and then what
    # is asked is not covered; or a later balance forbids all that is.
    return min(today, most) or today or command.amount_minor


def post_entry(
    draft: Draft, command: PostEntry, *, among: Sequence[BalanceState] | None = None
) -> Outcome:
    """
    Post one entry, or one of an act, whose funds are checked by what all of it comes to.

    `among` are of the act's accounts those that `seen_last` returns.
    """
    legs = [
        (leg.account_id, leg.amount_minor, leg.currency or command.currency) for leg in command.legs
    ]
    known = _known(draft, command.reference) if command.reference else None
    if known is not None:
        return replay(command, known, tuple(legs))
    balances = accounts(draft.state, legs)
    at = effective_at(draft, command.effective_at, *balances.values(), *(among or ()))
    if among is None:
        check_funds(draft, balances, legs, at, force=command.force)
    else:
        for account_id, amount, _ in legs:
            checks.room(balances[account_id], amount)
    moved = ((balances[account_id], amount) for account_id, amount, _ in legs)
    broken = _broken(draft, moved, at) if command.force else ()
    lines = tuple(post_line(draft, balances[account], amount, at) for account, amount, _ in legs)
    if command.reference:
        draft.known[command.reference] = KnownEntry(command.id, tuple(legs))
    return Outcome(command, "posted", command.id, lines, None, at, broken=broken)


def replay(command: Command, known: KnownEntry, legs: tuple[tuple[UUID, int, str], ...]) -> Outcome:
    """
    Answer with the entry that stands under the command's reference.

    :raises ReferenceReused: if it has other legs
    """
    if known.legs != legs:
        raise errors.ReferenceReused(
            "This reference stands for another journal entry.",
            journal_entry=encode_id("je", known.id),
        )
    return Outcome(command, "replayed", entry_id=known.id)


def accounts(state: State, legs: Legs) -> dict[UUID, BalanceState]:
    """Return the balances a set of legs names, in leg order; the first check to fail refuses."""
    found: dict[UUID, BalanceState] = {}
    for account_id, _, currency in legs:
        balance = checks.account(state, account_id, currency)
        if account_id in found:
            raise checks.same_account(account_id)
        found[account_id] = balance
    return found


def check_funds(
    draft: Draft,
    balances: Mapping[UUID, BalanceState],
    legs: Legs,
    at: datetime | None,
    *,
    force: bool = False,
) -> None:
    """Refuse what would take an account below its floor; money that comes in never is refused."""
    for account_id, amount, _ in legs:
        balance = balances[account_id]
        checks.outflow(balance, amount if balance.credit_normal else -amount)
        checks.room(balance, amount)
        check_later(draft, balance, amount, _checked_from(draft, at, force=force))


def effective_at(draft: Draft, asked: datetime | None, *balances: BalanceState) -> datetime | None:
    """
    Return the business time of an entry.

    :raises PeriodClosed: if its month is closed
    """
    at = draft.now if asked is None else asked
    if asked is None and at is not None:
        now = at
        for balance in balances:
            latest = balance.latest_effective_at
            if latest is not None and at < latest <= now + CLOCK_SKEW:
                at = latest
    if draft.state.closed and at is not None:
        checks.open_month(draft.state, at)
    return at


def seen_last(draft: Draft, balances: Iterable[BalanceState]) -> list[BalanceState]:
    """
    Return of these the one balance that says when what has no time of its own happens, if any.

    An act asks it once: looked at for each of its entries, thousands of accounts are millions.
    """
    now = draft.now
    if now is None:
        return []
    seen = {balance.latest_effective_at: balance for balance in balances}
    ahead = [at for at in seen if at is not None and now < at <= now + CLOCK_SKEW]
    return [seen[max(ahead)]] if ahead else []


def _checked_from(draft: Draft, at: datetime | None, *, force: bool) -> datetime | None:
    """Return from when on balances are checked: `force` lets go those before now, no others."""
    if not force or at is None:
        return at
    return None if draft.now is None else max(at, draft.now)


def _broken(
    draft: Draft, moved: Iterable[tuple[BalanceState, int]], at: datetime | None
) -> tuple[BrokenFloor, ...]:
    """Return what a forced entry, which is not posted yet, breaks of what it was let go."""
    if at is None:
        return ()
    found = []
    for balance, amount in moved:
        later, floor = draft.later.get(balance.id), balance.min_available_minor
        leaves = amount if balance.credit_normal else -amount
        if later is None or floor is None or leaves <= 0:
            continue
        low, low_at = checks.lowest(later, balance, at, now=draft.now)
        if low - leaves < floor:
            left, since = low - leaves, max(low_at, at)
            found.append(BrokenFloor(balance.id, balance.currency, floor, left, since))
    return tuple(found)


def check_later(
    draft: Draft, balance: BalanceState, amount_minor: int, at: datetime | None, *, freed: int = 0
) -> None:
    """
    Check a debit (> 0) or credit (< 0) against every balance from `at` on; without one, none.

    `freed` is what is reserved on the account for this very amount, and no longer.
    """
    later = draft.later.get(balance.id)
    leaves = amount_minor if balance.credit_normal else -amount_minor
    if later is not None and leaves > 0 and at is not None:
        checks.history(later, balance, leaves, at, now=draft.now, freed=freed)


def post_line(
    draft: Draft, balance: BalanceState, amount_minor: int, at: datetime | None
) -> PostedLine:
    """Move an amount on the account (a debit > 0) that was checked; return its posting."""
    balance = draft.own(balance)
    if amount_minor > 0:
        balance.posted_debits += amount_minor
    else:
        balance.posted_credits -= amount_minor
    version = balance.version = balance.version + 1
    if at is not None and (balance.latest_effective_at is None or balance.latest_effective_at < at):
        balance.latest_effective_at = at
    if draft.later:
        _change_later(draft, balance, amount_minor, at)
    if balance.credit_normal:
        posted = balance.posted_credits - balance.posted_debits
        available = posted - balance.pending_debits
    else:
        posted = balance.posted_debits - balance.posted_credits
        available = posted - balance.pending_credits
    # By name it takes twice as long, for each of thousands.
    return PostedLine._make(
        (balance.id, amount_minor, balance.currency, version, posted, available)
    )


def _change_later(
    draft: Draft, balance: BalanceState, amount_minor: int, at: datetime | None
) -> None:
    later = draft.own_later(balance.id)
    if later is not None and at is not None:
        later.change(at, -amount_minor if balance.credit_normal else amount_minor)
