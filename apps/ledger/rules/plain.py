"""
Transfers of which nothing has to be decided, one after the other: the engine's core for thousands.

What it lets through `posting.transfer` posts in the same way, but for the time, which is one for
all of them (docs/adr/0189); of what it does not, that says why.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.ledger.rules.posting import CLOCK_SKEW
from apps.ledger.rules.values import (
    COUNTER_MAX,
    AccountStatus,
    BalanceAfter,
    BalanceState,
    Transfer,
)


@dataclass(frozen=True, slots=True)
class PlainlyPosted:
    """
    What transfers come to: their postings in order, the debited one first, and their accounts.

    `accounts`, `amounts`, `versions` and `balances_after` are columns of two postings for each.
    `changed` are the accounts after the last of them, in the order in which they are named first.
    """

    at: datetime
    accounts: list[UUID]
    amounts: list[int]
    versions: list[int]
    balances_after: list[int]
    changed: list[BalanceState]

    @property
    def balances(self) -> tuple[BalanceAfter, ...]:
        """The accounts as they are after the last of them."""
        return tuple([BalanceAfter(b.id, b.version, b.posted, b.available) for b in self.changed])


def post_plainly(
    balances: dict[int, BalanceState], transfers: Sequence[Transfer], *, now: datetime
) -> PlainlyPosted | None:
    """
    Post a client's transfers in order, each seeing those before it; None if one is not plain.

    `balances` come under the integers in their ids, which compare in C, and are left as they are.
    All happen `now`, or at the latest that one of the accounts has seen, as far as clocks differ.
    """
    at = _time(balances.values(), now)
    if at is None:
        return None
    own: dict[int, BalanceState] = {}
    accounts: list[UUID] = []
    amounts: list[int] = []
    versions: list[int] = []
    after: list[int] = []
    for transfer in transfers:
        amount = transfer.amount_minor
        number = transfer.debit_account_id.int
        debit = own.get(number) or _own(own, number, balances)
        number = transfer.credit_account_id.int
        credit = own.get(number) or _own(own, number, balances)
        if debit is None or credit is None or debit is credit:
            return None
        if not debit.currency == transfer.currency == credit.currency:
            return None
        debited, credited = _moved(debit, amount), _moved(credit, -amount)
        if debited is None or credited is None:
            return None
        accounts += (debit.id, credit.id)
        amounts += (amount, -amount)
        versions += (debit.version, credit.version)
        after += (debited, credited)
    changed = list(own.values())
    if not all(map(_has_room, changed)):
        return None
    for balance in changed:
        balance.latest_effective_at = at
    return PlainlyPosted(at, accounts, amounts, versions, after, changed)


def _time(balances: Iterable[BalanceState], now: datetime) -> datetime | None:
    """Return when all happens; None if one of the accounts is not as most are."""
    at = now
    for balance in balances:
        if balance.status != AccountStatus.OPEN or balance.internal or balance.monitored:
            return None
        latest = balance.latest_effective_at
        if latest is not None and latest > at:
            at = latest
    return at if at <= now + CLOCK_SKEW else None


def _moved(balance: BalanceState, amount: int) -> int | None:
    """Move an amount, a debit > 0; return the posted balance, or None if that breaks the floor."""
    if amount > 0:
        balance.posted_debits += amount
    else:
        balance.posted_credits -= amount
    balance.version += 1
    if balance.credit_normal:
        posted = balance.posted_credits - balance.posted_debits
        left = posted - balance.pending_debits if amount > 0 else None
    else:
        posted = balance.posted_debits - balance.posted_credits
        left = posted - balance.pending_credits if amount < 0 else None
    floor = balance.min_available_minor
    return None if left is not None and floor is not None and left < floor else posted


def _own(
    own: dict[int, BalanceState], number: int, balances: dict[int, BalanceState]
) -> BalanceState | None:
    """Return a copy of a balance, which is changed; None if there is none."""
    balance = balances.get(number)
    if balance is not None:
        balance = own[number] = balance.copy()
    return balance


def _has_room(balance: BalanceState) -> bool:
    # What is counted only grows, so the last of it says so of all.
    return (
        balance.posted_debits + balance.pending_debits <= COUNTER_MAX
        and balance.posted_credits + balance.pending_credits <= COUNTER_MAX
    )
