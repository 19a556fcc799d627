"""
What stood on accounts at an instant, by either clock (ADR 0070).

The sum of everything before an instant is

    what the account's counters say now
    less the monthly totals from the nearest start of a UTC month on
    less the postings from that start on that no total counts yet
    plus (or less) the postings between that start and the instant

or, for instants nearer to the first month, the same from the other end of history. Every part is
read by an index, however long the history is. One statement, so one snapshot: what is being sealed
meanwhile is counted once. By `recorded`, an account's postings are in the
order of their versions, so for a few accounts the instant is found by halving, and the balance
stands on the posting found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import batched
from typing import Any, Final, Literal, Self
from uuid import UUID

from django.db import connection
from django.db.models import Max, Min

from apps.ledger.models import MonthlyTotal
from apps.ledger.queries import _history_sql as sql
from apps.ledger.queries._chosen_accounts import LedgerAccounts
from apps.ledger.rules import CLOCK_STEP_MAX, CREDIT_NORMAL
from apps.ledger.rules.months import nearest_boundary

type Clock = Literal["effective", "recorded"]

TICK: Final = timedelta(microseconds=1)

# A posting whose two clocks lie further apart than this is in the index `posting_displaced`. All
# others that are effective in a span were recorded in that span with so much added on both sides.
DISPLACED: Final = timedelta(days=4)
# Versions follow the server's clock, which may step back by a little.
REACH: Final = DISPLACED + CLOCK_STEP_MAX

# Plain rows, as they come: an object of each is made once, by the read that returns it.
type Cumulated = tuple[Any, ...]


def cumulate(
    accounts: LedgerAccounts, *, instants: Sequence[datetime], clock: Clock = "effective"
) -> list[Cumulated]:
    """
    Return what had moved by the clock before each instant (exclusive), in the order of codes.

    A row is an account's id, code, type and currency, and then for each instant its debits and its
    credits, both positive. All is read in one snapshot.
    """
    return _answer(accounts, sql.EACH, instants=instants, clock=clock)


def cumulate_next(
    accounts: LedgerAccounts,
    *,
    instants: Sequence[datetime],
    clock: Clock,
    back: bool = False,
    **asked: object,
) -> list[Cumulated]:
    """Return the first `count` rows from the code `start` on that moved; `back`: down from it."""
    answer = sql.LAST_MOVED if back else sql.NEXT_MOVED
    return _answer(accounts, answer, instants=instants, clock=clock, **asked)


def cumulate_by_type(
    accounts: LedgerAccounts, *, instants: Sequence[datetime], clock: Clock = "effective"
) -> list[tuple[str, str, list[int]]]:
    """
    Return the sums of the accounts' rows per currency and type, in this order.

    Postgres adds them up: of all accounts from the totals of their types, of a branch one by one.
    """
    return [
        (currency, type_, [int(part) for part in sums])
        for currency, type_, *sums in _answer(accounts, sql.BY_TYPE, instants=instants, clock=clock)
    ]


def _answer(
    accounts: LedgerAccounts,
    answer: str,
    *,
    instants: Sequence[datetime],
    clock: Clock,
    **more: object,
) -> list[Cumulated]:
    if not accounts.rows:
        return []
    statement, values = _written(accounts, answer, instants=instants, clock=clock)
    with connection.cursor() as cursor:
        cursor.execute(statement, values | more)
        rows: list[Cumulated] = cursor.fetchall()
    return rows


def moved_statement(
    accounts: LedgerAccounts, *, instants: Sequence[datetime]
) -> tuple[str, dict[str, Any]]:
    """
    Return a SELECT and its values: of each account that moved before the second of two instants.

    Its id, code, type, currency, what stood before the first (`opening`, debits less credits), and
    the `debits` and `credits` between.
    """
    return _written(accounts, sql.MOVED_BETWEEN, instants=instants, clock="effective")


def _written(
    accounts: LedgerAccounts, answer: str, *, instants: Sequence[datetime], clock: Clock
) -> tuple[str, dict[str, Any]]:
    """Return the statement and its values, but for those that the answer itself names."""
    by_totals = answer is sql.BY_TYPE and accounts.have_totals
    spans = [_Span.to(before) for before in instants]
    months = [span.month for span in spans]
    from_start = by_totals or _is_early(accounts, months)
    values: dict[str, Any] = {
        "org": accounts.organization_id,
        "outermost": max(months) if from_start else min(months),
    }
    if accounts.are_few:
        values |= {
            "accounts": [id_ for id_, *_ in accounts.rows],
            "numbers": list(range(2 * len(spans))),
            "search_at": [at for span in spans for at in (span.low - REACH, span.high + REACH)],
            "newest": accounts.version,
        }
    else:
        values |= {
            "branch": accounts.branch,
            "below": f"{accounts.branch}:",
            "currency": accounts.currency,
        }
    for n, span in enumerate(spans):
        values |= {f"{name}_{n}": value for name, value in span.values().items()}
    if by_totals:
        return _cumulated_by_type(spans, clock=clock), values
    return _cumulated(accounts, spans, answer, clock=clock, from_start=from_start), values


def _is_early(accounts: LedgerAccounts, months: Sequence[date]) -> bool:
    """Say whether fewer months lie before these than after: asked where there are many accounts."""
    middle = None if accounts.are_few else _middle_of_history(accounts.organization_id)
    return middle is not None and max(months) < middle


def nets_of(accounts: LedgerAccounts, *, instants: Sequence[datetime]) -> list[int]:
    """Return one account's debits less credits before each instant, by the effective clock."""
    [(_, _, _, _, *sums)] = cumulate(accounts, instants=instants)
    return [debits - credits_ for debits, credits_ in batched(sums, 2)]


def _middle_of_history(organization_id: UUID) -> date | None:
    """Return the month before which there are as many months of totals as after it."""
    months = MonthlyTotal.objects.filter(organization_id=organization_id, clock="effective")
    ends = months.aggregate(first=Min("month"), last=Max("month"))
    first: date | None = ends["first"]
    return first and first + (ends["last"] - first) / 2


@dataclass(frozen=True, slots=True)
class _Span:
    """From the nearest start of a month to the instant, or back to it."""

    before: datetime
    boundary: datetime

    @classmethod
    def to(cls, before: datetime) -> Self:
        return cls(before, nearest_boundary(before))

    @property
    def month(self) -> date:
        return self.boundary.date()

    @property
    def low(self) -> datetime:
        return min(self.before, self.boundary)

    @property
    def high(self) -> datetime:
        return max(self.before, self.boundary)

    def values(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "boundary": self.boundary,
            "month": self.month,
            "low": self.low,
            "high": self.high,
            "since": self.low - REACH,
            "until": self.high + REACH,
            "sign": 1 if self.before >= self.boundary else -1,
        }


def _cumulated(
    accounts: LedgerAccounts,
    spans: Sequence[_Span],
    answer: str,
    *,
    clock: Clock,
    from_start: bool,
) -> str:
    """
    Return the statement: constants of this module alone, with columns for each instant.

    The starts of months are reached from the counters of now, or `from_start` of the books.
    """
    is_few, count = accounts.are_few, len(spans)
    of_asked = "" if accounts.are_all else sql.OF_ASKED
    tables = [sql.filled(sql.ASKED_OF_FEW if is_few else sql.ASKED_OF_MANY)]
    if not is_few:
        tables.append(sql.filled(sql.UNSEALED))
    elif clock == "effective":
        tables.append(sql.SEARCH)
    sign, beyond = (1, "<") if from_start else (-1, ">=")
    tail = sql.TAIL if is_few else sql.TAIL_OF_MANY
    parts = [
        sql.totals(count, sign=sign, beyond=beyond, clock=clock, of_asked=of_asked),
        sql.tail(tail, count, sign=sign, beyond=beyond, clock=clock, of_asked=of_asked),
    ]
    if not from_start:
        parts.append(sql.now(count))
    if accounts.version is not None:
        parts.append(sql.later(count))
    more, between = _between(spans, clock=clock, is_few=is_few, of_asked=of_asked)
    return sql.cumulated([*tables, *more], [*parts, *between], count, answer=answer)


def _cumulated_by_type(spans: Sequence[_Span], *, clock: Clock) -> str:
    """Return the statement that sums all accounts up from the start, by the totals of types."""
    tail = sql.tail(sql.TAIL_OF_MANY, len(spans), sign=1, beyond="<", clock=clock, of_asked="")
    more, between = _between(spans, clock=clock, is_few=False, of_asked="")
    tables = [sql.filled(sql.UNSEALED), *more]
    return sql.cumulated_by_type(tables, [tail, *between], len(spans), clock=clock)


def _between(
    spans: Sequence[_Span], *, clock: Clock, is_few: bool, of_asked: str
) -> tuple[list[str], list[str]]:
    """Return what is read of the postings between each instant and its month: tables, and parts."""
    tables, parts = [], []
    for n, span in enumerate(spans):
        if span.low == span.high:
            continue
        wanted: Sequence[str] = sql.RECORDED_PARTS
        if clock == "effective":
            tables.append(sql.filled(sql.DISPLACED, n=n))
            wanted = sql.PARTS_OF_FEW if is_few else sql.PARTS_OF_MANY
        parts += [sql.part_of(n, part, len(spans), of_asked=of_asked) for part in wanted]
    return tables, parts


@dataclass(frozen=True, slots=True)
class BalanceAt:
    """An account's posted balance as of an instant, in minor units on its normal side."""

    account_id: UUID
    code: str
    type: str
    currency: str
    posted: int


def balances_of(accounts: LedgerAccounts, *, at: datetime, clock: Clock) -> list[BalanceAt]:
    """
    Return the balances of these accounts as of `at` (inclusive), in the order of codes.

    By `effective` it is what had happened by then, as far as is known now; by `recorded` what the
    books said then. Accounts that had not moved have 0.
    """
    if clock == "recorded" and accounts.are_few:
        [marks] = recorded_marks(accounts, instants=[at + TICK])
        return [BalanceAt(*row, marks.get(row[0], (0, 0))[1]) for row in accounts.rows]
    return [
        BalanceAt(id_, code, type_, currency, on_normal_side(type_, debits - credits_))
        for id_, code, type_, currency, debits, credits_ in cumulate(
            accounts, instants=[at + TICK], clock=clock
        )
    ]


def recorded_marks(
    accounts: LedgerAccounts, *, instants: Sequence[datetime]
) -> list[dict[UUID, tuple[int, int]]]:
    """
    Return, per instant, each account's last version recorded before it, and the balance after it.

    Accounts to which nothing had been posted are missing.
    """
    marks: list[dict[UUID, tuple[int, int]]] = [{} for _ in instants]
    values: dict[str, Any] = {
        "org": accounts.organization_id,
        "accounts": [id_ for id_, *_ in accounts.rows],
        "numbers": list(range(len(instants))),
        "search_at": list(instants),
    }
    with connection.cursor() as cursor:
        cursor.execute(
            sql.filled(sql.RECORDED, asked=sql.filled(sql.ASKED_OF_FEW), search=sql.SEARCH), values
        )
        for account_id, number, version, balance in cursor.fetchall():
            marks[number][account_id] = (version, balance)
    return marks


def on_normal_side(type_: str, net: int) -> int:
    """Return a net of debits over credits as the account's own side counts it."""
    return -net if type_ in CREDIT_NORMAL else net
