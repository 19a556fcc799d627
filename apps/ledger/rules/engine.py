"""The posting engine's core: commands applied in order to copies of the balances."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from apps.core.errors import Refusal
from apps.core.ids import encode_id
from apps.ledger import errors
from apps.ledger.rules import checks
from apps.ledger.rules.values import (
    BalanceAfter,
    BalanceState,
    CaptureHold,
    Command,
    ExpireHold,
    HoldState,
    HoldStatus,
    KnownEntry,
    LaterBalances,
    Outcome,
    PlaceHold,
    PostedLine,
    PostEntry,
    State,
    Transfer,
    VoidHold,
)

# Clocks of two servers differ by so much at most: what has no business time of its own happens
# when it is decided, and never a moment before what its accounts have seen already.
CLOCK_SKEW: Final = timedelta(seconds=5)

type _Legs = Sequence[tuple[UUID, int, str]]


def apply(state: State, commands: Sequence[Command]) -> tuple[State, list[Outcome]]:
    """
    Apply commands in order; return the state after, and one outcome per command.

    A refused command changes nothing and the next still runs. A linked chain succeeds or fails as
    one: the guilty command carries its own refusal, the rest `linked_command_failed`.
    """
    work = _Work(state)
    outcomes: list[Outcome] = []
    tied: list[Command] = []
    for command in commands:
        if command.linked:
            tied.append(command)
        elif tied:
            outcomes += _apply_chain(work, [*tied, command])
            tied = []
        else:
            outcomes.append(_apply_one(work, command))
    if tied:
        outcomes += _apply_chain(work, tied)
    return work.state, outcomes


def apply_together(state: State, entries: Sequence[PostEntry]) -> tuple[State, list[Outcome]]:
    """
    Apply entries as one act, all or none: its funds are checked once, by what it all comes to.

    No account lacks what another entry of the act brings it, in whatever order they are named.
    An account that is paid out on the whole is checked against today's balance, and against every
    later one at which the act as a whole has taken something away. Entries without a business time
    of their own get one that they share; none is forced. What refuses one entry alone is its own
    refusal, and `linked_command_failed` the others'; what refuses the whole is that of each.
    """
    work = _Work(state)
    named = [state.balances[id_] for id_ in touched(entries)[0] if id_ in state.balances]
    outcomes: list[Outcome] = []
    for entry in entries:
        try:
            outcomes.append(_post_entry(work, entry, among=named))
        except Refusal as refusal:
            return state, [
                _refused(other, refusal if other is entry else _linked_failed())
                for other in entries
            ]
    try:
        for account_id in dict.fromkeys(line[0] for o in outcomes for line in o.lines):
            _check_net(state, work, account_id)
    except Refusal as refusal:
        return state, [_refused(entry, refusal) for entry in entries]
    return work.state, outcomes


def touched(commands: Sequence[Command]) -> tuple[set[UUID], set[UUID]]:
    """Return the accounts and the existing holds that commands name: what is to be locked."""
    accounts: set[UUID] = set()
    holds: set[UUID] = set()
    for command in commands:
        match command:
            case Transfer() | PlaceHold():
                accounts.add(command.debit_account_id)
                accounts.add(command.credit_account_id)
            case PostEntry():
                accounts.update(leg.account_id for leg in command.legs)
            case _:
                holds.add(command.hold_id)
    return accounts, holds


class _Work:
    """A state of which an account, a hold or a history is copied as it is first changed."""

    __slots__ = ("_our_later", "balances", "holds", "known", "later", "now", "state")

    def __init__(self, state: State) -> None:
        self.state = State(
            balances=dict(state.balances),
            holds={id_: copy(hold) for id_, hold in state.holds.items()},
            known=dict(state.known),
            known_holds=dict(state.known_holds),
            now=state.now,
            reach_internal=state.reach_internal,
            later=dict(state.later),
            closed=state.closed,
        )
        self.balances = self.state.balances
        self.holds = self.state.holds
        self.known = self.state.known
        self.later = self.state.later
        self.now = state.now
        self._our_later: set[UUID] = set()

    def own(self, balance: BalanceState) -> BalanceState:
        """Return the account's copy that may be changed."""
        if balance.owner is self:
            return balance
        mine = self.balances[balance.id] = balance.copy(owner=self)
        return mine

    def own_later(self, account_id: UUID) -> LaterBalances | None:
        later = self.later.get(account_id)
        if later is not None and account_id not in self._our_later:
            self._our_later.add(account_id)
            later = self.later[account_id] = later.copy()
        return later


def _apply_chain(work: _Work, chain: Sequence[Command]) -> list[Outcome]:
    undo = _snapshot(work, chain)
    outcomes: list[Outcome] = []
    for command in chain:
        outcome = _apply_one(work, command)
        if outcome.refusal is not None:
            undo()
            return [
                outcome if other is command else _refused(other, _linked_failed())
                for other in chain
            ]
        outcomes.append(outcome)
    return outcomes


def _snapshot(work: _Work, chain: Sequence[Command]) -> Callable[[], None]:
    """Return what puts the state back to before the chain; only what it names is copied."""
    accounts, held = touched(chain)
    holds = {id_: copy(work.holds[id_]) for id_ in held if id_ in work.holds}
    for hold in holds.values():
        accounts |= {hold.debit_account_id, hold.credit_account_id}
    balances = {id_: work.balances[id_].copy() for id_ in accounts if id_ in work.balances}
    later = {id_: work.later[id_].copy() for id_ in accounts if id_ in work.later}
    placed = {command.id for command in chain if isinstance(command, PlaceHold)}
    references = {
        command.reference
        for command in chain
        if isinstance(command, Transfer | PostEntry | CaptureHold) and command.reference
    } - work.known.keys()
    held_references = {
        command.reference: work.state.known_holds.get(command.reference)
        for command in chain
        if isinstance(command, PlaceHold) and command.reference
    }

    def undo() -> None:
        work.balances.update(balances)
        work.holds.update(holds)
        work.later.update(later)
        for id_ in placed:
            work.holds.pop(id_, None)
        for reference in references:
            work.known.pop(reference, None)
        for reference, hold_id in held_references.items():
            work.state.known_holds.pop(reference, None)
            if hold_id is not None:
                work.state.known_holds[reference] = hold_id

    return undo


def _linked_failed() -> Refusal:
    return errors.LinkedCommandFailed("A command linked to this one was refused.")


def _refused(command: Command, refusal: Refusal) -> Outcome:
    return Outcome(command, "refused", refusal=refusal)


def _apply_one(work: _Work, command: Command) -> Outcome:
    try:
        return _APPLY[type(command)](work, command)
    except Refusal as refusal:
        return _refused(command, refusal)


# --- Posting ------------------------------------------------------------------------------------


def _transfer(work: _Work, command: Transfer) -> Outcome:
    """The path of thousands: the same checks as for any entry, written for two legs."""
    currency, amount, reference = command.currency, command.amount_minor, command.reference
    known = _known(work, reference) if reference else None
    if known is not None:
        return _replay_transfer(command, known)
    debit = checks.account(work.state, command.debit_account_id, currency)
    credit = checks.account(work.state, command.credit_account_id, currency)
    if debit is credit:
        raise errors.SameLedgerAccount("An entry names each ledger account once.")
    at = _effective(work, command.effective_at, debit, credit)
    if command.up_to:
        amount = _affordable(work, command, at, debit, credit)
    if debit.credit_normal:
        checks.outflow(debit, amount)
    if not credit.credit_normal:
        checks.outflow(credit, amount)
    checks.room(debit, amount)
    checks.room(credit, -amount)
    if work.later:
        since = _checked_from(work, at, force=command.force)
        _check_later(work, debit, amount, since)
        _check_later(work, credit, -amount, since)
    lines = (_post(work, debit, amount, at), _post(work, credit, -amount, at))
    if reference:
        legs = ((debit.id, amount, currency), (credit.id, -amount, currency))
        work.known[reference] = KnownEntry(command.id, legs)
    return Outcome(command, "posted", command.id, lines, None, at)


def _known(work: _Work, reference: str) -> KnownEntry | None:
    checks.reference(reference, reach_internal=work.state.reach_internal)
    return work.known.get(reference)


def _replay_transfer(command: Transfer, known: KnownEntry) -> Outcome:
    amount = command.amount_minor
    if command.up_to and known.legs:
        # As much as there was then is the answer, if it is one that could have been given.
        amount = min(amount, abs(known.legs[0][1]))
    legs = (
        (command.debit_account_id, amount, command.currency),
        (command.credit_account_id, -amount, command.currency),
    )
    return _replay(command, known, legs)


def _affordable(
    work: _Work, command: Transfer, at: datetime | None, debit: BalanceState, credit: BalanceState
) -> int:
    """Return how much of the asked amount both floors allow; at least 1, or it is refused."""
    amount, since = command.amount_minor, _checked_from(work, at, force=command.force)
    for balance, leaves in ((debit, debit.credit_normal), (credit, not credit.credit_normal)):
        floor = balance.min_available_minor
        if not leaves or floor is None:
            continue
        allowed = balance.available - floor
        later = work.later.get(balance.id)
        if later is not None and since is not None:
            allowed = min(allowed, checks.lowest(later, balance, since, now=work.now)[0] - floor)
        amount = min(amount, max(allowed, 0))
    if amount == 0:
        # Nothing may leave: the ordinary check says which account lacks it, and how much.
        return command.amount_minor
    return amount


def _post_entry(
    work: _Work, command: PostEntry, *, among: Sequence[BalanceState] | None = None
) -> Outcome:
    """Post one entry; `among` the accounts of the act it is part of, funds are checked by that."""
    legs = [
        (leg.account_id, leg.amount_minor, leg.currency or command.currency) for leg in command.legs
    ]
    known = _known(work, command.reference) if command.reference else None
    if known is not None:
        return _replay(command, known, tuple(legs))
    balances = _accounts(work.state, legs)
    at = _effective(work, command.effective_at, *balances.values(), *(among or ()))
    if among is None:
        _check_funds(work, balances, legs, at, force=command.force)
    else:
        for account_id, amount, _ in legs:
            checks.room(balances[account_id], amount)
    lines = tuple(_post(work, balances[account], amount, at) for account, amount, _ in legs)
    if command.reference:
        work.known[command.reference] = KnownEntry(command.id, tuple(legs))
    return Outcome(command, "posted", command.id, lines, None, at)


def _replay(
    command: Command, known: KnownEntry, legs: tuple[tuple[UUID, int, str], ...]
) -> Outcome:
    if known.legs != legs:
        raise errors.ReferenceReused(
            "This reference stands for another journal entry.",
            journal_entry=encode_id("je", known.id),
        )
    return Outcome(command, "replayed", entry_id=known.id)


def _accounts(state: State, legs: _Legs) -> dict[UUID, BalanceState]:
    """Return the balances a set of legs names, in leg order; the first check to fail refuses."""
    found: dict[UUID, BalanceState] = {}
    for account_id, _, currency in legs:
        balance = checks.account(state, account_id, currency)
        if account_id in found:
            raise errors.SameLedgerAccount("An entry names each ledger account once.")
        found[account_id] = balance
    return found


def _check_funds(
    work: _Work,
    balances: Mapping[UUID, BalanceState],
    legs: _Legs,
    at: datetime | None,
    *,
    force: bool = False,
) -> None:
    """Refuse what would take an account below its floor; money that comes in never is refused."""
    for account_id, amount, _ in legs:
        balance = balances[account_id]
        checks.outflow(balance, amount if balance.credit_normal else -amount)
        checks.room(balance, amount)
        _check_later(work, balance, amount, _checked_from(work, at, force=force))


def _check_net(before: State, work: _Work, account_id: UUID) -> None:
    """Refuse what an act as a whole has taken from an account, if that breaks its floor."""
    balance = before.balances[account_id]
    checks.outflow(balance, balance.posted - work.balances[account_id].posted)
    later = before.later.get(account_id)
    if later is not None:
        checks.net_history(later, work.later[account_id], balance, now=work.now)


def _effective(work: _Work, asked: datetime | None, *balances: BalanceState) -> datetime | None:
    """
    Return the business time of an entry.

    :raises PeriodClosed: if its month is closed
    """
    at = work.now if asked is None else asked
    if asked is None and at is not None:
        now = at
        for balance in balances:
            latest = balance.latest_effective_at
            if latest is not None and at < latest <= now + CLOCK_SKEW:
                at = latest
    if work.state.closed and at is not None:
        checks.open_month(work.state, at)
    return at


def _checked_from(work: _Work, at: datetime | None, *, force: bool) -> datetime | None:
    """Return from when on balances are checked: `force` lets go those before now, no others."""
    if not force or at is None:
        return at
    return None if work.now is None else max(at, work.now)


def _check_later(
    work: _Work, balance: BalanceState, amount_minor: int, at: datetime | None, *, freed: int = 0
) -> None:
    """
    Check a debit (> 0) or credit (< 0) against every balance from `at` on; without one, none.

    `freed` is what is reserved on the account for this very amount, and no longer.
    """
    later = work.later.get(balance.id)
    leaves = amount_minor if balance.credit_normal else -amount_minor
    if later is not None and leaves > 0 and at is not None:
        checks.history(later, balance, leaves, at, now=work.now, freed=freed)


def _post(work: _Work, balance: BalanceState, amount_minor: int, at: datetime | None) -> PostedLine:
    balance = work.own(balance)
    if amount_minor > 0:
        balance.posted_debits += amount_minor
    else:
        balance.posted_credits -= amount_minor
    version = balance.version = balance.version + 1
    if at is not None and (balance.latest_effective_at is None or balance.latest_effective_at < at):
        balance.latest_effective_at = at
    if work.later:
        _change_later(work, balance, amount_minor, at)
    if balance.credit_normal:
        posted = balance.posted_credits - balance.posted_debits
        return PostedLine(
            balance.id, amount_minor, balance.currency, version, posted,
            posted - balance.pending_debits,
        )  # fmt: skip
    posted = balance.posted_debits - balance.posted_credits
    return PostedLine(
        balance.id, amount_minor, balance.currency, version, posted,
        posted - balance.pending_credits,
    )  # fmt: skip


def _change_later(
    work: _Work, balance: BalanceState, amount_minor: int, at: datetime | None
) -> None:
    later = work.own_later(balance.id)
    if later is None or at is None:
        return
    change = -amount_minor if balance.credit_normal else amount_minor
    for place in range(bisect_left(later.instants, at), len(later.instants)):
        later.lows[place] += change


# --- Holds --------------------------------------------------------------------------------------


def _place_hold(work: _Work, command: PlaceHold) -> Outcome:
    if command.reference:
        checks.reference(command.reference, reach_internal=work.state.reach_internal)
    known = work.state.known_holds.get(command.reference or "")
    # One that ended, if only a moment ago in this batch, stands in nobody's way. One whose time was
    # over before the batch has ended by now: the shell sees to that.
    if known is not None and work.holds[known].status == HoldStatus.OPEN:
        return _replay_hold(command, work.holds[known])
    debit, credit = command.debit_account_id, command.credit_account_id
    legs = [
        (debit, command.amount_minor, command.currency),
        (credit, -command.amount_minor, command.currency),
    ]
    balances = _accounts(work.state, legs)
    _check_funds(work, balances, legs, _effective(work, None, *balances.values()))
    debited, credited = work.own(balances[debit]), work.own(balances[credit])
    debited.pending_debits += command.amount_minor
    credited.pending_credits += command.amount_minor
    work.holds[command.id] = HoldState(
        id=command.id,
        debit_account_id=debit,
        credit_account_id=credit,
        currency=command.currency,
        amount_minor=command.amount_minor,
        expires_at=command.expires_at,
        reference=command.reference,
        multi_capture=command.multi_capture,
        event_sequence=1,
    )
    if command.reference:
        work.state.known_holds[command.reference] = command.id
    after = _after(debited, credited)
    return Outcome(command, "held", after=after, hold=copy(work.holds[command.id]))


def _replay_hold(command: PlaceHold, hold: HoldState) -> Outcome:
    asked = (
        command.debit_account_id, command.credit_account_id, command.amount_minor,
        command.currency, command.multi_capture, command.expires_at,
    )  # fmt: skip
    stands = (
        hold.debit_account_id, hold.credit_account_id, hold.amount_minor, hold.currency,
        hold.multi_capture, hold.expires_at,
    )  # fmt: skip
    if asked != stands:
        raise errors.ReferenceReused(
            "This reference stands for another hold.", hold=encode_id("ho", hold.id)
        )
    return Outcome(command, "replayed", hold=copy(hold))


def _after(*balances: BalanceState) -> tuple[BalanceAfter, ...]:
    return tuple(BalanceAfter(b.id, b.version, b.posted, b.available) for b in balances)


def _open_hold(work: _Work, hold_id: UUID) -> HoldState:
    """Return a hold that can be captured or given up, or refuse with what became of it."""
    hold = _standing_hold(work, hold_id)
    if _is_expired(work, hold):
        raise errors.HoldExpired("The hold has expired.", hold=encode_id("ho", hold.id))
    return hold


def _standing_hold(work: _Work, hold_id: UUID) -> HoldState:
    hold = work.holds.get(hold_id)
    if hold is None:
        raise errors.HoldNotFound("There is no such hold.", hold=encode_id("ho", hold_id))
    if not work.state.reach_internal:
        for account_id in (hold.debit_account_id, hold.credit_account_id):
            checks.reachable(work.balances[account_id])
    if hold.status == HoldStatus.CAPTURED:
        raise errors.HoldAlreadyCaptured("The hold was captured.", hold=encode_id("ho", hold_id))
    if hold.status == HoldStatus.VOIDED:
        raise errors.HoldAlreadyVoided("The hold was voided.", hold=encode_id("ho", hold_id))
    if hold.status == HoldStatus.EXPIRED:
        raise errors.HoldExpired("The hold has expired.", hold=encode_id("ho", hold_id))
    return hold


def _is_expired(work: _Work, hold: HoldState) -> bool:
    """Expiry is decided by the clock at the moment of the act, whether or not a sweeper ran."""
    return hold.expires_at is not None and work.now is not None and hold.expires_at <= work.now


def _release(work: _Work, hold: HoldState, amount_minor: int) -> tuple[BalanceState, BalanceState]:
    debit = work.own(work.balances[hold.debit_account_id])
    credit = work.own(work.balances[hold.credit_account_id])
    debit.pending_debits -= amount_minor
    credit.pending_credits -= amount_minor
    return debit, credit


def _capture_hold(work: _Work, command: CaptureHold) -> Outcome:
    known = work.known.get(command.reference) if command.reference else None
    hold = work.holds.get(command.hold_id)
    if known is not None and hold is not None:
        return _replay_capture(command, known, hold)
    hold = _open_hold(work, command.hold_id)
    left = hold.remaining_minor
    amount = left if command.amount_minor is None else command.amount_minor
    if amount > left:
        raise errors.CaptureExceedsHold(
            "More is captured than the hold still reserves.",
            hold=encode_id("ho", hold.id),
            remaining=left,
        )
    # Its money was taken from what was available as the hold was placed: a capture cannot break a
    # floor of today, nor is it refused by an account that was frozen since. A back-dated one is
    # checked against the past like any other.
    ends = not hold.multi_capture or amount in {0, left}
    accounts = (work.balances[hold.debit_account_id], work.balances[hold.credit_account_id])
    at = _effective(work, command.effective_at, *accounts)
    freed = left if ends else amount
    if amount and command.effective_at is not None:
        for balance, signed in zip(accounts, (amount, -amount), strict=True):
            _check_later(work, balance, signed, at, freed=freed)
    debit, credit = _release(work, hold, freed)
    lines = (_post(work, debit, amount, at), _post(work, credit, -amount, at)) if amount else ()
    hold.captured_minor += amount
    hold.event_sequence += 1
    if ends:
        hold.status = HoldStatus.CAPTURED
    if command.reference and amount:
        work.known[command.reference] = KnownEntry(command.entry_id, _hold_legs(hold, amount))
    entry_id = command.entry_id if amount else None
    after = _after(debit, credit)
    return Outcome(command, "posted", entry_id, lines, None, at, after, copy(hold))


def _replay_capture(command: CaptureHold, known: KnownEntry, hold: HoldState) -> Outcome:
    amount = command.amount_minor
    if amount is None:
        # All that was left then is the answer, if it is one that could have been given.
        amount = min(hold.amount_minor, abs(known.legs[0][1]))
    return _replay(command, known, _hold_legs(hold, amount))


def _hold_legs(hold: HoldState, amount: int) -> tuple[tuple[UUID, int, str], ...]:
    return (
        (hold.debit_account_id, amount, hold.currency),
        (hold.credit_account_id, -amount, hold.currency),
    )


def _void_hold(work: _Work, command: VoidHold) -> Outcome:
    hold = _open_hold(work, command.hold_id)
    debit, credit = _release(work, hold, hold.remaining_minor)
    hold.status = HoldStatus.VOIDED
    hold.event_sequence += 1
    return Outcome(command, "voided", after=_after(debit, credit), hold=copy(hold))


def _expire_hold(work: _Work, command: ExpireHold) -> Outcome:
    hold = _standing_hold(work, command.hold_id)
    if not _is_expired(work, hold):
        raise errors.HoldNotExpired("The hold's time is not over.", hold=encode_id("ho", hold.id))
    debit, credit = _release(work, hold, hold.remaining_minor)
    hold.status = HoldStatus.EXPIRED
    hold.event_sequence += 1
    return Outcome(command, "expired", after=_after(debit, credit), hold=copy(hold))


_APPLY: Final[Mapping[type, Callable[[_Work, Any], Outcome]]] = {
    Transfer: _transfer,
    PostEntry: _post_entry,
    PlaceHold: _place_hold,
    CaptureHold: _capture_hold,
    VoidHold: _void_hold,
    ExpireHold: _expire_hold,
}
