"""
What stood on accounts at an instant, by either clock (ADR 0070).

The sum of everything before an instant is

    what the account's counters say now
    less the monthly totals from the nearest start of a UTC month on
    plus (or less) the sealed postings between that start and the instant
    less the postings from the instant on that no total counts yet

or, for instants nearer to the first month, the same from the other end of history. Every part is
read by an index, however long the history is. One statement, so one snapshot: what is being sealed
meanwhile is counted once. By `recorded`, an account's postings are in the
order of their versions, so for a few accounts the instant is found by halving, and the balance
stands on the posting found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal, Self
from uuid import UUID

from django.db import connection
from django.db.models import Max, Min, Q

from apps.ledger import errors
from apps.ledger.models import LedgerAccount, MonthlyTotal
from apps.ledger.queries import _history_sql as sql
from apps.ledger.rules import CREDIT_NORMAL
from apps.ledger.rules.months import nearest_boundary

type Clock = Literal["effective", "recorded"]

TICK: Final = timedelta(microseconds=1)

# A posting whose two clocks lie further apart than this is in the index `posting_displaced`. All
# others that are effective in a span were recorded in that span with so much added on both sides.
DISPLACED: Final = timedelta(days=4)
# Versions follow the server's clock, which may step back by a little.
_STEP_BACK: Final = timedelta(hours=1)
REACH: Final = DISPLACED + _STEP_BACK

# Up to here the part of a month is read account by account; above, in one pass over the month.
FEW_ACCOUNTS: Final = 200


@dataclass(frozen=True, slots=True)
class Cumulated:
    """What had moved over an account before an instant, in minor units; both sides positive."""

    debits: int = 0
    credits: int = 0
    postings: int = 0

    @property
    def net(self) -> int:
        """Debits less credits."""
        return self.debits - self.credits


NOTHING: Final = Cumulated()


@dataclass(frozen=True, slots=True)
class LedgerAccounts:
    """The accounts asked about, in the order of their codes, and how they were chosen."""

    organization_id: UUID
    rows: Sequence[tuple[UUID, str, str, str]]
    branch: str = ""
    currency: str = ""

    @property
    def are_few(self) -> bool:
        return len(self.rows) <= FEW_ACCOUNTS


def choose_accounts(
    *,
    organization_id: UUID,
    account_id: UUID | None = None,
    code_prefix: str = "",
    currency: str = "",
) -> LedgerAccounts:
    """
    Return one account, the accounts of a branch of the tree, or all.

    A branch is the account of this code and all below it: `customers` and `customers:` both mean
    `customers:cus_1:EUR`, and neither means `customers_old`.
    """
    rows = LedgerAccount.objects.filter(organization_id=organization_id).order_by("code")
    branch = code_prefix.rstrip(":")
    if currency:
        rows = rows.filter(currency=currency)
    if branch:
        rows = rows.filter(Q(code=branch) | Q(code__startswith=f"{branch}:"))
    if account_id is not None:
        rows = rows.filter(id=account_id)
    found = list(rows.values_list("id", "code", "type", "currency"))
    return LedgerAccounts(organization_id, found, branch, currency)


def cumulate(
    accounts: LedgerAccounts, *, instants: Sequence[datetime], clock: Clock = "effective"
) -> list[dict[UUID, Cumulated]]:
    """
    Return, per instant, what had moved by the clock before it (exclusive), by account.

    Accounts on which nothing had are missing. All instants are read in one snapshot.
    """
    if not accounts.rows:
        return [{} for _ in instants]
    middle = None if accounts.are_few else _middle_of_history(accounts.organization_id)
    spans = [_Span.to(before, middle=middle) for before in instants]
    statement = _cumulated(spans, clock=clock, is_few=accounts.are_few)
    values: dict[str, Any] = {"org": accounts.organization_id}
    if accounts.are_few:
        values |= {
            "accounts": [id_ for id_, *_ in accounts.rows],
            "numbers": list(range(2 * len(spans))),
            "search_at": [at for span in spans for at in (span.low - REACH, span.high + REACH)],
        }
    else:
        values |= {
            "branch": accounts.branch,
            "below": f"{accounts.branch}:",
            "currency": accounts.currency,
        }
    for n, span in enumerate(spans):
        values |= {f"{name}_{n}": value for name, value in span.values().items()}
    found: list[dict[UUID, Cumulated]] = [{} for _ in instants]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        for number, account_id, *sums in cursor.fetchall():
            found[number][account_id] = Cumulated(*sums)
    return found


def _middle_of_history(organization_id: UUID) -> date | None:
    """Return the month before which there are as many months of totals as after it."""
    months = MonthlyTotal.objects.filter(organization_id=organization_id, clock="effective")
    ends = months.aggregate(first=Min("month"), last=Max("month"))
    first: date | None = ends["first"]
    return first and first + (ends["last"] - first) / 2


@dataclass(frozen=True, slots=True)
class _Span:
    """
    From the nearest start of a month to the instant, or back to it.

    The start itself is reached from the counters of now, or `from_start` of the books, whichever
    is nearer for thousands of accounts; of a few, every month is soon read.
    """

    before: datetime
    boundary: datetime
    from_start: bool

    @classmethod
    def to(cls, before: datetime, *, middle: date | None) -> Self:
        boundary = nearest_boundary(before)
        return cls(before, boundary, middle is not None and boundary.date() < middle)

    @property
    def low(self) -> datetime:
        return min(self.before, self.boundary)

    @property
    def high(self) -> datetime:
        return max(self.before, self.boundary)

    def values(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "month": self.boundary.date(),
            "low": self.low,
            "high": self.high,
            "since": self.low - REACH,
            "until": self.high + REACH,
            "sign": 1 if self.before >= self.boundary else -1,
        }


def _cumulated(spans: Sequence[_Span], *, clock: Clock, is_few: bool) -> str:
    """Return the statement: constants of this module alone, one set of parts per instant."""
    tables = [sql.filled(sql.ASKED_OF_FEW if is_few else sql.ASKED_OF_MANY)]
    if is_few and clock == "effective":
        tables.append(sql.SEARCH)
    parts = []
    for n, span in enumerate(spans):
        wanted = [sql.TOTALS, sql.TAIL, *(() if span.from_start else (sql.NOW,))]
        if span.low < span.high and clock == "effective":
            tables.append(sql.filled(sql.DISPLACED, n=n))
            near = sql.NEAR_PART_OF_FEW if is_few else sql.NEAR_PART_OF_MANY
            wanted += [near, sql.DISPLACED_PART]
        elif span.low < span.high:
            wanted.append(sql.RECORDED_PART)
        way = {"sign": 1, "beyond": "<"} if span.from_start else {"sign": -1, "beyond": ">="}
        parts += [sql.filled(part, n=n, clock=clock, **way) for part in wanted]
    return sql.CUMULATED.format(tables=", ".join(tables), parts=" UNION ALL ".join(parts))


@dataclass(frozen=True, slots=True)
class BalanceAt:
    """An account's posted balance as of an instant, in minor units on its normal side."""

    account_id: UUID
    code: str
    type: str
    currency: str
    posted: int


def list_balances_at(
    *,
    organization_id: UUID,
    at: datetime,
    clock: Clock = "effective",
    account_id: UUID | None = None,
    code_prefix: str = "",
) -> list[BalanceAt]:
    """
    Return balances as of `at` (inclusive), in the order of codes: one account's, or a branch's.

    By `effective` it is what had happened by then, as far as is known now; by `recorded` what the
    books said then. Accounts that had not moved have 0.

    :raises LedgerAccountNotFound: if the organisation has no account of this id
    """
    accounts = choose_accounts(
        organization_id=organization_id, account_id=account_id, code_prefix=code_prefix
    )
    if account_id is not None and not accounts.rows:
        raise errors.LedgerAccountNotFound("There is no such ledger account.")
    if clock == "recorded" and accounts.are_few:
        [marks] = recorded_marks(accounts, instants=[at + TICK])
        posted = {id_: balance for id_, (_, balance) in marks.items()}
    else:
        [moved] = cumulate(accounts, instants=[at + TICK], clock=clock)
        posted = {
            id_: on_normal_side(type_, moved[id_].net)
            for id_, _, type_, _ in accounts.rows
            if id_ in moved
        }
    return [BalanceAt(*row, posted=posted.get(row[0], 0)) for row in accounts.rows]


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
