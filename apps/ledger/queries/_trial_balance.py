"""The trial balance of a span of time, and the balance sheet of an instant."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypedDict, Unpack
from uuid import UUID

from apps.core import transactions
from apps.ledger.queries._chosen_accounts import FEW_ACCOUNTS, choose_accounts, next_accounts
from apps.ledger.queries._history import (
    TICK,
    Clock,
    Cumulated,
    cumulate,
    cumulate_by_type,
    cumulate_next,
    moved_statement,
    on_normal_side,
)
from apps.ledger.rules import AccountType

# A page's accounts are read in so many portions: the first of its own length.
PORTIONS: Final = 3


class Narrowed(TypedDict, total=False):
    """Which lines: those of a branch, and of a currency, if these are named."""

    code_prefix: str
    currency: str


@dataclass(frozen=True, slots=True)
class AccountMovement:
    """
    One account's line: what stood before, what moved, in minor units.

    Balances are debits less credits, so a liability's is negative; both sides of what moved are
    positive.
    """

    account_id: UUID
    code: str
    type: str
    currency: str
    opening: int
    debits: int
    credits: int

    @property
    def closing(self) -> int:
        return self.opening + self.debits - self.credits


@dataclass(frozen=True, slots=True)
class CurrencyTotal:
    """What a currency's lines come to; where the books are right both balances are 0."""

    currency: str
    opening: int
    debits: int
    credits: int
    closing: int

    @property
    def is_balanced(self) -> bool:
        return self.opening == 0 and self.closing == 0 and self.debits == self.credits


def movements_statement(
    *, organization_id: UUID, since: datetime, until: datetime
) -> tuple[str, dict[str, Any]]:
    """
    Return a SELECT of a span's lines and its values, for what Postgres itself stores of them.

    A line is of each account that moved before `until` (exclusive). Its columns are the account's
    id, code, type, currency, opening, debits and credits.
    """
    accounts = choose_accounts(organization_id=organization_id)
    return moved_statement(accounts, instants=[since, until])


def movements_from(
    *,
    organization_id: UUID,
    since: datetime | None,
    until: datetime,
    start: str,
    count: int,
    back: bool = False,
    clock: Clock = "effective",
    **narrowed: Unpack[Narrowed],
) -> list[AccountMovement]:
    """
    Return lines of accounts that moved before `until` (exclusive), in the order of codes.

    By the clock. The first `count` from the code `start` on; `back`: down from it.
    Without `since` (inclusive) everything counts as moved.

    Accounts that moved at some time are read in portions, no others. They may have moved later
    only: after `PORTIONS` Postgres looks for the next lines among all accounts.
    """
    ends = _ends(since, until)
    found: list[AccountMovement] = []
    for portion in range(PORTIONS):
        size = FEW_ACCOUNTS if portion else count
        accounts, following = next_accounts(
            organization_id=organization_id, start=start, count=size, back=back, **narrowed
        )
        lines = _lines(cumulate(accounts, instants=ends, clock=clock))
        found += lines[::-1] if back else lines
        if len(found) >= count or following is None:
            return found[:count]
        start = following
    every = choose_accounts(organization_id=organization_id, **narrowed)
    return found + _lines(
        cumulate_next(
            every, instants=ends, clock=clock, start=start, count=count - len(found), back=back
        )
    )


def _ends(since: datetime | None, until: datetime) -> list[datetime]:
    return [until] if since is None else [since, until]


def _lines(rows: Iterable[Cumulated]) -> list[AccountMovement]:
    # No posting is of 0: an account that has neither debits nor credits never moved.
    return [
        AccountMovement(id_, code, type_, of, *_moved(sums))
        for id_, code, type_, of, *sums in rows
        if sums[-2] or sums[-1]
    ]


def _moved(sums: Sequence[int]) -> tuple[int, int, int]:
    """Return the opening balance, and the debits and credits after it."""
    *opened, debits, credits_ = sums
    before, less = opened or (0, 0)
    return (before - less, debits - before, credits_ - less)


def totals_between(
    *,
    organization_id: UUID,
    since: datetime | None,
    until: datetime,
    clock: Clock = "effective",
    **narrowed: Unpack[Narrowed],
) -> list[CurrencyTotal]:
    """Return the sums of the same lines per currency, in the order of currencies."""
    accounts = choose_accounts(organization_id=organization_id, **narrowed)
    by_currency: dict[str, list[int]] = {}
    for of, _, sums in cumulate_by_type(accounts, instants=_ends(since, until), clock=clock):
        total = by_currency.setdefault(of, [0] * len(sums))
        by_currency[of] = [one + part for one, part in zip(total, sums, strict=True)]
    return [total_of(of, *_moved(sums)) for of, sums in by_currency.items() if sums[-2] or sums[-1]]


def total_of(currency: str, opening: int, debits: int, credits_: int) -> CurrencyTotal:
    """Return a currency's total of what stood before and what moved."""
    return CurrencyTotal(currency, opening, debits, credits_, opening + debits - credits_)


@dataclass(frozen=True, slots=True)
class BalanceSheet:
    """
    One currency's: each section on its own side, in minor units.

    `result` is income less expenses since the books began: no closing entry moves it to equity.
    """

    currency: str
    assets: int
    liabilities: int
    equity: int
    income: int
    expenses: int

    @property
    def result(self) -> int:
        return self.income - self.expenses

    @property
    def is_balanced(self) -> bool:
        return self.assets == self.liabilities + self.equity + self.result


def balance_sheets(
    *, organization_id: UUID, at: datetime, currency: str = ""
) -> list[BalanceSheet]:
    """
    Return the balance sheet of each currency as of `at` (inclusive), by the effective clock.

    All of it is as of one instant of the database: accounts opened meanwhile are in none of it.
    """
    with transactions.snapshot():
        accounts = choose_accounts(organization_id=organization_id, currency=currency)
        found = cumulate_by_type(accounts, instants=[at + TICK])
    sections: dict[str, dict[str, int]] = {}
    for of, type_, (debits, credits_) in found:
        if debits or credits_:
            sections.setdefault(of, {})[type_] = debits - credits_
    return [sheet_of(of, nets) for of, nets in sections.items()]


def sheet_of(currency: str, nets: Mapping[str, int]) -> BalanceSheet:
    """Return the balance sheet of what the accounts of each type come to, debits less credits."""
    sums = {type_: on_normal_side(type_, net) for type_, net in nets.items()}
    return BalanceSheet(
        currency,
        assets=sums.get(AccountType.ASSET, 0),
        liabilities=sums.get(AccountType.LIABILITY, 0),
        equity=sums.get(AccountType.EQUITY, 0),
        income=sums.get(AccountType.INCOME, 0),
        expenses=sums.get(AccountType.EXPENSE, 0),
    )
