"""What refuses a command: each check raises the refusal it stands for, or returns."""

from bisect import bisect_left
from datetime import datetime
from uuid import UUID

from apps.core.errors import Refusal
from apps.core.ids import encode_id
from apps.core.money import format_minor
from apps.core.wall_clock import print_instant
from apps.ledger import errors
from apps.ledger.rules.later import LaterBalances
from apps.ledger.rules.values import (
    COUNTER_MAX,
    RESERVED_REFERENCES,
    AccountStatus,
    BalanceState,
    State,
)


def reference(text: str, *, reach_internal: bool) -> None:
    """:raises ReferenceReserved: if a client's own begins as those of Kassa's acts do."""
    if not reach_internal and is_reserved(text):
        raise errors.ReferenceReserved("References that begin so are of Kassa's own acts.")


def is_reserved(reference: str) -> bool:
    """Say whether a reference begins as those of Kassa's own acts do."""
    return reference.startswith(RESERVED_REFERENCES)


def account(state: State, account_id: UUID, currency: str) -> BalanceState:
    """
    Return the account, if it takes postings in this currency.

    :raises LedgerAccountsNotFound, LedgerAccountReserved, LedgerAccountClosed, LedgerAccountFrozen,
        CurrencyMismatch: in this order, the first that applies
    """
    balance = state.balances.get(account_id)
    if (
        balance is not None
        and balance.status == AccountStatus.OPEN
        and balance.currency == currency
        and (state.reach_internal or not balance.internal)
    ):
        return balance
    shown = encode_id("la", account_id)
    if balance is None:
        raise errors.LedgerAccountsNotFound(
            "There is no such ledger account.", ledger_account=shown
        )
    if not state.reach_internal:
        reachable(balance)
    if balance.status == AccountStatus.CLOSED:
        raise errors.LedgerAccountClosed("The ledger account is closed.", ledger_account=shown)
    if balance.status == AccountStatus.FROZEN:
        raise errors.LedgerAccountFrozen("The ledger account is frozen.", ledger_account=shown)
    raise errors.CurrencyMismatch(
        f"The ledger account is in {balance.currency}, not {currency}.",
        ledger_account=shown,
        currency=balance.currency,
    )


def same_account(account_id: UUID) -> Refusal:
    """Return the refusal of an entry that names an account twice."""
    return errors.SameLedgerAccount(
        "An entry names each ledger account once.", ledger_account=encode_id("la", account_id)
    )


def reachable(balance: BalanceState) -> None:
    """:raises LedgerAccountReserved: if only Kassa's own acts post to the account"""
    if balance.internal:
        raise errors.LedgerAccountReserved(
            "This ledger account is posted to by Kassa's own acts only.",
            ledger_account=encode_id("la", balance.id),
        )


def outflow(balance: BalanceState, amount: int) -> None:
    """:raises InsufficientFunds: if the amount, on the normal side, would break the floor."""
    floor = balance.min_available_minor
    if amount > 0 and floor is not None and balance.available - amount < floor:
        raise errors.InsufficientFunds(
            "The available balance does not cover this.",
            ledger_account=encode_id("la", balance.id),
            available=balance.available,
            requested=amount,
            min_available=floor,
        )


def room(balance: BalanceState, amount: int) -> None:
    """:raises BalanceTooLarge: if more would have moved over a side than the books can count."""
    if amount > 0:
        total = balance.posted_debits + balance.pending_debits + amount
    else:
        total = balance.posted_credits + balance.pending_credits - amount
    if total > COUNTER_MAX:
        raise errors.BalanceTooLarge(
            "No more can move over this ledger account.",
            ledger_account=encode_id("la", balance.id),
        )


def open_month(state: State, at: datetime) -> None:
    """:raises PeriodClosed: if the instant lies in a month that is closed, or closing."""
    for starts_at, ends_at, month in state.closed:
        if starts_at <= at < ends_at:
            raise errors.PeriodClosed("The period of this entry is closed.", period=month)


def lowest(
    later: LaterBalances,
    balance: BalanceState,
    at: datetime,
    *,
    now: datetime | None,
    freed: int = 0,
) -> tuple[int, datetime]:
    """
    Return the lowest balance from `at` on, and from when on it stands.

    What holds reserve, but for what is `freed`, is taken off from now on: it was free in the past.
    """
    found: tuple[int, datetime] | None = None
    lows = later.lows
    for place in range(bisect_left(later.instants, at), len(lows)):
        low = lows[place]
        if now is not None and later.instants[place] >= now:
            low -= balance.pending_out - freed
        if found is None or low < found[0]:
            found = (low, later.lows_at[place])
    return found if found is not None else (balance.available, at)


def history(
    later: LaterBalances,
    balance: BalanceState,
    amount: int,
    at: datetime,
    *,
    now: datetime | None,
    freed: int = 0,
) -> None:
    """
    Check an outflow that is dated before other postings against every later balance.

    :raises LaterBalanceBelowFloor: if one of them would have been below the floor
    """
    low, low_at = lowest(later, balance, at, now=now, freed=freed)
    _above_floor(balance, low - amount, amount, max(low_at, at))


def net_history(
    before: LaterBalances, after: LaterBalances, balance: BalanceState, *, now: datetime | None
) -> None:
    """
    Check what an act of several entries takes from each later balance, where it takes something.

    :raises LaterBalanceBelowFloor: the lowest of those that would have been below the floor
    """
    found: list[tuple[int, int, datetime]] = []
    for place, (was, low) in enumerate(zip(before.lows, after.lows, strict=True)):
        taken = was - low
        reserved = balance.pending_out if now is not None and after.instants[place] >= now else 0
        if taken > 0:
            found.append((low - reserved, taken, after.lows_at[place]))
    if found:
        _above_floor(balance, *min(found, key=lambda one: one[0]))


def _above_floor(balance: BalanceState, left: int, amount: int, at: datetime) -> None:
    floor = balance.min_available_minor
    if floor is not None and left < floor:
        shown, when = encode_id("la", balance.id), print_instant(at)
        of = balance.currency
        raise errors.LaterBalanceBelowFloor(
            f"This would leave {format_minor(left, of)} on {shown} at {when}, below its floor of"
            f" {format_minor(floor, of)}: money counts from its business time on.",
            ledger_account=shown,
            balance=left,
            balance_at=when,
            requested=amount,
            min_available=floor,
        )
