"""The trial balance of a span of time, and the balance sheet of an instant."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.ledger.queries._history import TICK, choose_accounts, cumulate, on_normal_side
from apps.ledger.rules import AccountType


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


def movements_between(
    *,
    organization_id: UUID,
    since: datetime | None,
    until: datetime,
    code_prefix: str = "",
    currency: str = "",
) -> list[AccountMovement]:
    """
    Return a line per account that ever moved before `until` (exclusive), in the order of codes.

    By the effective clock. Without `since` (inclusive) everything counts as moved.
    """
    accounts = choose_accounts(
        organization_id=organization_id, code_prefix=code_prefix, currency=currency
    )
    # No posting is of 0: an account that has neither debits nor credits never moved.
    if since is None:
        return [
            AccountMovement(id_, code, type_, of, 0, debits, credits_)
            for id_, code, type_, of, debits, credits_ in cumulate(accounts, instants=[until])
            if debits or credits_
        ]
    return [
        AccountMovement(id_, code, type_, of, before - less, debits - before, credits_ - less)
        for id_, code, type_, of, before, less, debits, credits_ in cumulate(
            accounts, instants=[since, until]
        )
        if debits or credits_
    ]


def movement_totals(lines: Iterable[AccountMovement]) -> list[CurrencyTotal]:
    """Return the sums per currency, in the order of currencies."""
    sums: dict[str, list[int]] = {}
    for line in lines:
        total = sums.setdefault(line.currency, [0, 0, 0, 0])
        parts = (line.opening, line.debits, line.credits, line.closing)
        sums[line.currency] = [one + part for one, part in zip(total, parts, strict=True)]
    return [CurrencyTotal(currency, *sums[currency]) for currency in sorted(sums)]


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
    lines: Sequence[tuple[AccountMovement, int]]

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

    Lines are the accounts that do not stand at 0, with their balance on the normal side.
    """
    moved = movements_between(
        organization_id=organization_id, since=None, until=at + TICK, currency=currency
    )
    by_currency: dict[str, list[AccountMovement]] = {}
    for line in moved:
        by_currency.setdefault(line.currency, []).append(line)
    return [_sheet(of, by_currency[of]) for of in sorted(by_currency)]


def _sheet(currency: str, moved: Sequence[AccountMovement]) -> BalanceSheet:
    lines = [(line, on_normal_side(line.type, line.closing)) for line in moved if line.closing]
    sums: dict[str, int] = dict.fromkeys(AccountType, 0)
    for line, posted in lines:
        sums[line.type] += posted
    return BalanceSheet(
        currency,
        assets=sums[AccountType.ASSET],
        liabilities=sums[AccountType.LIABILITY],
        equity=sums[AccountType.EQUITY],
        income=sums[AccountType.INCOME],
        expenses=sums[AccountType.EXPENSE],
        lines=lines,
    )
