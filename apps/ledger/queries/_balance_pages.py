"""A page of balances as of an instant with its totals: of many accounts, sums Postgres made."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.core import transactions
from apps.ledger.models import LedgerAccount
from apps.ledger.queries._accounts import in_branch
from apps.ledger.queries._chosen_accounts import LedgerAccounts, choose_accounts, next_accounts
from apps.ledger.queries._history import (
    TICK,
    BalanceAt,
    Clock,
    balances_of,
    cumulate_by_type,
    on_normal_side,
)
from apps.ledger.queries._pages import Cut, PageAsked, cut_lines


@dataclass(frozen=True, slots=True)
class BalanceTotal:
    """What the accounts of one type come to in a currency, in minor units on their normal side."""

    type: str
    currency: str
    posted: int


@dataclass(frozen=True, slots=True)
class BalancePage(Cut[BalanceAt]):
    """A page's lines, and the sums over every line there is."""

    totals: Sequence[BalanceTotal]


def page_of_balances_at(
    *,
    organization_id: UUID,
    at: datetime,
    clock: Clock,
    ask: PageAsked,
    account_id: UUID | None = None,
    account_type: str = "",
) -> BalancePage | None:
    """
    Return a page of the balances of one account or a branch, as `balances_of` counts them.

    With an `account_type`, of accounts of this type alone.

    All of it is as of one instant of the database. None if a cursor's account has no line there.
    """
    with transactions.snapshot():
        accounts = choose_accounts(
            organization_id=organization_id,
            account_id=account_id,
            account_type=account_type,
            **ask.narrowed,
        )
        few = balances_of(accounts, at=at, clock=clock) if accounts.are_few else None

        def lines_from(start: str, count: int, *, back: bool = False) -> list[BalanceAt]:
            if few is not None:
                return _part(few, start, count, back=back)
            chosen, _ = next_accounts(
                organization_id=organization_id,
                start=start,
                count=count,
                back=back,
                account_type=account_type,
                moved=False,
                **ask.narrowed,
            )
            found = balances_of(chosen, at=at, clock=clock)
            return found[::-1] if back else found

        page = cut_lines(organization_id, ask, lines_from)
        if page is None:
            return None
        totals = _sums(few) if few is not None else _sums_of_many(accounts, at=at, clock=clock)
    if account_type:
        # Of many, Postgres has added up every type: there are as few of them as there are totals.
        totals = [total for total in totals if total.type == account_type]
    return BalancePage(page.lines, page.has_previous, page.has_more, totals)


def _part(lines: list[BalanceAt], start: str, count: int, *, back: bool) -> list[BalanceAt]:
    """Return the next `count` of all lines from a code on, or down from it."""
    if not start:
        return lines[:count]
    # By the code's own line: Python would put codes in another order than Postgres.
    way = lines[::-1] if back else lines
    place = next((n for n, line in enumerate(way) if line.code == start), len(way))
    return way[place : place + count]


def _sums(lines: Iterable[BalanceAt]) -> list[BalanceTotal]:
    sums: dict[tuple[str, str], int] = {}
    for line in lines:
        key = (line.currency, line.type)
        sums[key] = sums.get(key, 0) + line.posted
    return [BalanceTotal(type_, of, posted) for (of, type_), posted in sorted(sums.items())]


def _sums_of_many(accounts: LedgerAccounts, *, at: datetime, clock: Clock) -> list[BalanceTotal]:
    # Accounts that never moved are lines here, so their types have totals too.
    sums = dict.fromkeys(_types_of(accounts), 0)
    for of, type_, (debits, credits_) in cumulate_by_type(
        accounts, instants=[at + TICK], clock=clock
    ):
        sums[of, type_] = on_normal_side(type_, debits - credits_)
    return [BalanceTotal(type_, of, posted) for (of, type_), posted in sorted(sums.items())]


def _types_of(accounts: LedgerAccounts) -> list[tuple[str, str]]:
    rows = LedgerAccount.objects.filter(organization_id=accounts.organization_id)
    if accounts.currency:
        rows = rows.filter(currency=accounts.currency)
    if accounts.branch:
        rows = rows.filter(in_branch(accounts.branch))
    return list(rows.values_list("currency", "type").distinct())
