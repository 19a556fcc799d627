"""
Statement of account: what stood there, what moved, what stood after, by either clock (ADR 0070).

By `recorded` the lines are in the order of their versions, and the running balance is the one
stored with each. By `effective` they are in the order of business time, and the running balance is
summed from the start of what the page reads. A page of a hot account reads what it moved in some
days; of any other, the account whole.

A page takes several statements while others post, and agrees with itself: it is the account as of
one version, the newest as it was begun. What was posted later is in neither its lines nor its
balances. So it needs no transaction, and no trips of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import OuterRef, QuerySet, Subquery

from apps.ledger import errors
from apps.ledger.models import Balance, LedgerAccount
from apps.ledger.queries import _slices
from apps.ledger.queries._balances import is_of_fact
from apps.ledger.queries._chosen_accounts import LedgerAccounts
from apps.ledger.queries._history import TICK, Clock, nets_of, on_normal_side, recorded_marks

# A page that looks for a rare kind stops after so many slices, and says where it goes on.
SLICES_A_PAGE: Final = 10


class Position(NamedTuple):
    """A place in a statement: a line's time and version; the line is not after or before it."""

    at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class LinesAsked:
    """Which lines: the first ones, or those right after a place or right before one."""

    limit: int = 50
    after: Position | None = None
    before: Position | None = None

    @property
    def place(self) -> Position | None:
        return self.after if self.before is None else self.before


_FIRST: Final = LinesAsked()


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
    """
    A page of a statement; balances in minor units on the account's normal side.

    `next` is the place that the page after this one begins behind, and `previous` the one that the
    page before it ends before; None if there is none.
    """

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
    previous: Position | None
    next: Position | None


def get_statement(
    *,
    organization_id: UUID,
    account_id: UUID,
    since: datetime,
    until: datetime,
    clock: Clock = "effective",
    kind: str = "",
    ask: LinesAsked = _FIRST,
) -> Statement:
    """
    Return a page of an account's statement, oldest first: `since` inclusive, `until` exclusive.

    With a `kind` the other lines are left out and the running balance still counts them; a page
    may then be shorter than asked for, even empty, and go on. A place may be any, as the one in a
    page's address is: outside of the window it is its nearer end. Opening and closing are those of
    the whole statement, of the same postings as the page's lines. A closed month's never changes;
    of an open one, each page is as the account stood when it was read.

    :raises LedgerAccountNotFound: if the organisation has no such account
    """
    rows = LedgerAccount.objects.filter(organization_id=organization_id, id=account_id)
    account = with_standing(rows).first()
    if account is None:
        raise errors.LedgerAccountNotFound("There is no such ledger account.")
    return statement_of(account, since=since, until=until, clock=clock, kind=kind, ask=ask)


def statement_of(
    account: LedgerAccount,
    *,
    since: datetime,
    until: datetime,
    clock: Clock,
    kind: str,
    ask: LinesAsked,
) -> Statement:
    """Return what `get_statement` does, of an account as it was read `with_standing`."""
    found: Any = account
    row = (found.id, found.code, found.type, found.currency)
    accounts = LedgerAccounts(account.organization_id, [row], are_few=True, version=found.version)
    page = _by_version if clock == "recorded" else partial(_by_business_time, found.version)
    opening, closing, lines, beyond = page(accounts, since, until, kind, ask)
    behind = _behind(ask, lines, clock)
    if ask.before is not None:
        lines, ends = lines[::-1], (beyond, behind)
    else:
        ends = (behind, beyond)
    return Statement(*row, clock, since, until, opening, closing, lines, *ends)


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


# Opening and closing, the lines in the direction they were read in, and where that stopped short.
type _Page = tuple[int, int, list[StatementLine], Position | None]


def _behind(ask: LinesAsked, lines: Sequence[StatementLine], clock: Clock) -> Position | None:
    """Return where the page ends that this one was come to from; None if it is the first one."""
    if ask.place is None:
        return None
    if lines:
        return _position(lines[0], clock)
    # None of the kind before the search stopped: back from the place, over its own line too.
    step = 1 if ask.before is None else -1
    return Position(ask.place.at, ask.place.version + step)


def _position(line: StatementLine, clock: Clock) -> Position:
    at = line.recorded_at if clock == "recorded" else line.effective_at
    return Position(at, line.account_version)


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
     ORDER BY p.account_version {way} LIMIT %(limit)s
"""


def _by_version(
    accounts: LedgerAccounts,
    since: datetime,
    until: datetime,
    kind: str,
    ask: LinesAsked,
) -> _Page:
    account_id = accounts.rows[0][0]
    marks = recorded_marks(accounts, instants=[since, until])
    (first, opening), (last, closing) = (mark.get(account_id, (0, 0)) for mark in marks)
    low, high, stop = first, last, None
    reach = SLICES_A_PAGE * _slices.SLICE if kind else last
    if ask.before is not None:
        high = min(last, ask.before.version - 1)
        low = max(first, high - reach)
        stop = Position(since, low + 1) if low > first else None
    else:
        low = max(first, ask.after.version) if ask.after else first
        high = min(last, low + reach)
        stop = Position(until, high) if high < last else None
    lines = _read(
        _VERSIONS.format(way="ASC" if ask.before is None else "DESC"),
        org=accounts.organization_id,
        account=account_id,
        low=low,
        high=high,
        kind=kind,
        limit=ask.limit + 1,
    )
    if len(lines) > ask.limit:
        stop = _position(lines[ask.limit - 1], "recorded")
    return opening, closing, lines[: ask.limit], stop


# --- In the order of business time --------------------------------------------------------------

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
     WHERE (r.effective_at, r.account_version) {beyond} (%(at)s, %(version)s)
       AND (%(kind)s = '' OR e.kind = %(kind)s)
     ORDER BY r.effective_at {way}, r.account_version {way} LIMIT %(limit)s
"""


def _by_business_time(
    version: int,
    accounts: LedgerAccounts,
    since: datetime,
    until: datetime,
    kind: str,
    ask: LinesAsked,
) -> _Page:
    account_id, _, type_, _ = accounts.rows[0]
    side = on_normal_side(type_, 1)
    # A place may be of another window of the same account: what lies before this one is in its
    # opening balance, and behind it there is nothing.
    place = min(max(ask.place or Position(since, 0), Position(since, 0)), Position(until, 0))
    lines: list[StatementLine] = []
    nets: list[int] = []
    stop: Position | None = place
    for _ in range(SLICES_A_PAGE):
        if ask.before is None:
            part = _slices.slice_after(accounts, version, place.at, until)
            statement = _LINES.format(lines=part.statement, beyond=">", way="ASC")
            end, place_after = until, Position(part.until, 0)
        else:
            part = _slices.slice_before(accounts, version, since, min(place.at + TICK, until))
            statement = _LINES.format(lines=part.statement, beyond="<", way="DESC")
            end, place_after = since, Position(part.since, 0)
        nets += nets_of(accounts, instants=[*([] if nets else [since, until]), part.since])
        lines += _read(
            statement,
            org=accounts.organization_id,
            account=account_id,
            low=part.low,
            high=part.high,
            newest=version,
            since=part.since,
            until=part.until,
            base=nets[-1],
            side=side,
            at=place.at,
            version=place.version,
            kind=kind,
            limit=ask.limit + 1 - len(lines),
        )
        if len(lines) > ask.limit:
            stop = _position(lines[ask.limit - 1], "effective")
            break
        if place_after.at == end:
            stop = None
            break
        stop = place = place_after
    opening, closing, *_ = nets
    return side * opening, side * closing, lines[: ask.limit], stop


def _read(statement: str, **values: Any) -> list[StatementLine]:  # noqa: ANN401  (of a statement)
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [StatementLine(*row) for row in cursor.fetchall()]
