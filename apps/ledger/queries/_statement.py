"""
Statement of account: what stood there, what moved, what stood after, by either clock (ADR 0070).

By `recorded` the lines are in the order of their versions, and the running balance is the one
stored with each. By `effective` they are in the order of business time, and the running balance is
summed from the page's first line on. A page of a hot account reads what it moved in some days; of
any other, the account whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import OuterRef, QuerySet, Subquery

from apps.ledger import errors
from apps.ledger.models import Balance, LedgerAccount, Posting
from apps.ledger.queries import _history_sql as sql
from apps.ledger.queries._balances import is_of_fact
from apps.ledger.queries._history import (
    REACH,
    Clock,
    LedgerAccounts,
    nets_of,
    on_normal_side,
    recorded_marks,
)

# How many versions are read at once, unless the account moved more often in a day.
SLICE: Final = 20_000
# A page that looks for a rare kind stops after so many slices, and says where it goes on.
SLICES_A_PAGE: Final = 10

_DAY: Final = timedelta(days=1)


class Position(NamedTuple):
    """A place in a statement: right after the line of this time and version."""

    at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class StatementLine:
    """
    One line: a signed amount (debit positive), and the balance after it on the normal side.

    The running balance follows the order of the statement it stands in.
    """

    entry_id: UUID
    kind: str
    reference: str | None
    description: str
    effective_at: datetime
    recorded_at: datetime
    amount_minor: int
    balance_after_minor: int
    account_version: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A page of a statement; balances in minor units on the account's normal side."""

    account_id: UUID
    code: str
    type: str
    currency: str
    clock: Clock
    since: datetime
    until: datetime
    opening_minor: int
    closing_minor: int
    lines: Sequence[StatementLine]
    next: Position | None


def get_statement(
    *,
    organization_id: UUID,
    account_id: UUID,
    since: datetime,
    until: datetime,
    clock: Clock = "effective",
    kind: str = "",
    after: Position | None = None,
    limit: int = 50,
) -> Statement:
    """
    Return a page of an account's statement, oldest first: `since` inclusive, `until` exclusive.

    With a `kind` the other lines are left out and the running balance still counts them; a page
    may then be shorter than `limit` and go on. A place `after` which it goes on may be any, as the
    one in a page's address is: outside of the window it is its nearer end. Opening and closing are
    those of the whole statement. A closed month's never changes; of an open one, what is posted
    while a page is read may be in its closing balance and not yet among its lines.

    :raises LedgerAccountNotFound: if the organisation has no such account
    """
    rows = LedgerAccount.objects.filter(organization_id=organization_id, id=account_id)
    account = with_standing(rows).first()
    if account is None:
        raise errors.LedgerAccountNotFound("There is no such ledger account.")
    return statement_of(
        account, since=since, until=until, clock=clock, kind=kind, after=after, limit=limit
    )


def statement_of(
    account: LedgerAccount,
    *,
    since: datetime,
    until: datetime,
    clock: Clock,
    kind: str,
    after: Position | None,
    limit: int,
) -> Statement:
    """Return what `get_statement` does, of an account that was read `with_standing`."""
    found: Any = account
    row = (found.id, found.code, found.type, found.currency)
    accounts = LedgerAccounts(account.organization_id, [row], are_few=True)
    page = _by_version if clock == "recorded" else partial(_by_business_time, found.version)
    opening, closing, lines, following = page(accounts, since, until, kind, after, limit)
    return Statement(*row, clock, since, until, opening, closing, lines, following)


def with_standing(rows: QuerySet[LedgerAccount]) -> QuerySet[LedgerAccount]:
    """
    Have each account bring along what its page asks of its balance, under these names.

    `version` and `latest_effective_at` are the balance's; `is_of_fact` says that no correction by
    hand reaches the account.
    """
    own = Balance.objects.filter(organization_id=OuterRef("organization_id"), id=OuterRef("id"))
    return rows.annotate(
        version=Subquery(own.values("version")),
        latest_effective_at=Subquery(own.values("latest_effective_at")),
        is_of_fact=is_of_fact(),
    )


def statement_opens_at(account: LedgerAccount, *, now: datetime) -> datetime | None:
    """
    Return the latest business time of an account read `with_standing`, or now if that is to come.

    None where nothing was posted.
    """
    latest: datetime | None = account.latest_effective_at  # type: ignore[attr-defined]  # as read
    return min(latest, now) if latest else None


type _Page = tuple[int, int, list[StatementLine], Position | None]


# --- In the order of versions -------------------------------------------------------------------

_VERSIONS: Final = """
    SELECT p.entry_id, e.kind, e.reference, e.description, p.effective_at, p.recorded_at,
           p.amount_minor, p.balance_after_minor, p.account_version
      FROM ledger_posting p
      JOIN ledger_journal_entry e
        ON e.organization_id = p.organization_id AND e.id = p.entry_id
     WHERE p.organization_id = %(org)s AND p.account_id = %(account)s
       AND p.account_version > %(low)s AND p.account_version <= %(high)s
       AND (%(kind)s = '' OR e.kind = %(kind)s)
     ORDER BY p.account_version LIMIT %(limit)s
"""


def _by_version(
    accounts: LedgerAccounts,
    since: datetime,
    until: datetime,
    kind: str,
    after: Position | None,
    limit: int,
) -> _Page:
    account_id = accounts.rows[0][0]
    marks = recorded_marks(accounts, instants=[since, until])
    (first, opening), (last, closing) = (mark.get(account_id, (0, 0)) for mark in marks)
    low = max(first, after.version) if after else first
    high = min(last, low + SLICES_A_PAGE * SLICE) if kind else last
    lines = _read(
        _VERSIONS,
        org=accounts.organization_id,
        account=account_id,
        low=low,
        high=high,
        kind=kind,
        limit=limit + 1,
    )
    following = Position(until, high) if high < last else None
    if len(lines) > limit:
        following = Position(lines[limit - 1].recorded_at, lines[limit - 1].account_version)
    return opening, closing, lines[:limit], following


# --- In the order of business time --------------------------------------------------------------

_WHOLE: Final = """
    line AS (
        SELECT p.entry_id, p.amount_minor, p.account_version, p.effective_at, p.recorded_at
          FROM ledger_posting p
         WHERE p.organization_id = %(org)s AND p.account_id = %(account)s
           AND p.account_version > %(low)s AND p.account_version <= %(high)s
           AND p.effective_at >= %(since)s AND p.effective_at < %(until)s
    )
"""
_SLICE: Final = """
    displaced AS MATERIALIZED (
        SELECT p.account_id, p.entry_id, p.amount_minor, p.account_version, p.effective_at,
               p.recorded_at
          FROM ledger_posting p
         WHERE p.organization_id = %(org)s AND {is_displaced}
           AND p.effective_at >= %(since)s AND p.effective_at < %(until)s
    ), line AS (
        SELECT p.entry_id, p.amount_minor, p.account_version, p.effective_at, p.recorded_at
          FROM ledger_posting p
         WHERE p.organization_id = %(org)s AND p.account_id = %(account)s
           AND p.account_version > %(low)s AND p.account_version <= %(high)s AND {is_near}
           AND p.effective_at >= %(since)s AND p.effective_at < %(until)s
         UNION ALL
        SELECT p.entry_id, p.amount_minor, p.account_version, p.effective_at, p.recorded_at
          FROM displaced p WHERE p.account_id = %(account)s
    )
"""
_LINES: Final = """
    WITH {lines}, running AS (
        SELECT line.*,
               (%(base)s + SUM(amount_minor) OVER (ORDER BY effective_at, account_version))::bigint
                   AS net
          FROM line
    )
    SELECT r.entry_id, e.kind, e.reference, e.description, r.effective_at, r.recorded_at,
           r.amount_minor, %(side)s * r.net, r.account_version
      FROM running r
      JOIN ledger_journal_entry e ON e.organization_id = %(org)s AND e.id = r.entry_id
     WHERE (r.effective_at, r.account_version) > (%(at)s, %(version)s)
       AND (%(kind)s = '' OR e.kind = %(kind)s)
     ORDER BY r.effective_at, r.account_version LIMIT %(limit)s
"""


def _by_business_time(
    version: int,
    accounts: LedgerAccounts,
    since: datetime,
    until: datetime,
    kind: str,
    after: Position | None,
    limit: int,
) -> _Page:
    account_id, _, type_, _ = accounts.rows[0]
    side = on_normal_side(type_, 1)
    # A place may be of another window of the same account: what lies before this one is in its
    # opening balance, and behind it there is nothing.
    place = min(max(after or Position(since, 0), Position(since, 0)), Position(until, 0))
    opening, closing, base = nets_of(accounts, instants=[since, until, place.at])
    lines: list[StatementLine] = []
    following: Position | None = place
    for _ in range(SLICES_A_PAGE):
        part = _slice(accounts, version, place.at, until)
        lines += _read(
            _LINES.format(lines=part.statement),
            org=accounts.organization_id,
            account=account_id,
            low=part.low,
            high=part.high,
            since=place.at,
            until=part.until,
            base=base,
            side=side,
            at=place.at,
            version=place.version,
            kind=kind,
            limit=limit + 1 - len(lines),
        )
        if len(lines) > limit:
            following = Position(lines[limit - 1].effective_at, lines[limit - 1].account_version)
            break
        if part.until >= until:
            following = None
            break
        following = place = Position(part.until, 0)
        [base] = nets_of(accounts, instants=[place.at])
    return side * opening, side * closing, lines[:limit], following


class _Slice(NamedTuple):
    """Versions to look at (low exclusive) for all that is effective before `until`."""

    statement: str
    low: int
    high: int
    until: datetime


def _slice(accounts: LedgerAccounts, version: int, at: datetime, until: datetime) -> _Slice:
    """Return what to read from `at` on: whole where an account is small, else a day or more."""
    if version <= SLICE:
        return _Slice(_WHOLE, 0, version, until)
    account_id = accounts.rows[0][0]
    day = min(at + _DAY, until)
    marks = recorded_marks(accounts, instants=[at - REACH, day + REACH])
    low, high = (mark.get(account_id, (0, 0))[0] for mark in marks)
    statement = sql.filled(_SLICE)
    if high >= low + SLICE:
        return _Slice(statement, low, high, day)
    if version <= low + SLICE:
        return _Slice(statement, low, version, until)
    recorded_at = (
        Posting.objects.filter(
            organization_id=accounts.organization_id,
            account_id=account_id,
            account_version=low + SLICE,
        )
        .values_list("recorded_at", flat=True)
        .get()
    )
    # Whatever is effective before this, and not in the index of the displaced, has a lower version.
    return _Slice(statement, low, low + SLICE, min(max(recorded_at - REACH, day), until))


def _read(statement: str, **values: Any) -> list[StatementLine]:  # noqa: ANN401  (of a statement)
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [StatementLine(*row) for row in cursor.fetchall()]
