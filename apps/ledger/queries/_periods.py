"""Accounting periods: months in the organisation's zone, closed in order (ADR 0071)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Min, Q, QuerySet

from apps.accounts import queries as accounts
from apps.core.wall_clock import day_of, first_instant_at
from apps.ledger import errors
from apps.ledger.models import MonthlyTotal, Period
from apps.ledger.queries import _history_sql as sql
from apps.ledger.rules.months import first_of, next_month
from apps.ledger.states import PeriodState

# Requests under way carry the instant they began with, and that may be of last month.
CLOSES_AFTER: Final = timedelta(hours=1)
# Of the months that nobody asked to close those of so many years are listed: an entry may be dated
# decades ago by a slip.
LISTED_YEARS: Final = 5

# Of the postings that no total counts: their earliest, and how many entries. And the oldest
# transaction under way, or NULL where nobody asks for it.
_UNSEALED: Final = """
    WITH {unsealed}
    SELECT MIN(effective_at), COUNT(DISTINCT entry_id) FILTER (WHERE effective_at < %(until)s),
           {oldest}
      FROM unsealed
"""
# A transaction holds a lock on its own number from when it gets one until what it wrote is visible.
# `pg_snapshot_xmin` would say the same of the whole server, and wait for other databases. Locks
# show the lower half of a number; the difference to the newest one tells the rest. A lock without a
# backend is of a prepared transaction, or of one that ended this moment: it counts.
_OLDEST: Final = """
    SELECT COALESCE(MIN(newest.number + ((l.transactionid::text::bigint - newest.number
                        + 6442450944) & 4294967295) - 2147483648), MIN(newest.number))
      FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS number) AS newest
      LEFT JOIN (pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid)
        ON l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
       AND (a.pid IS NULL
            OR a.datid = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
_FIRST_OF_MONTH: Final = """
    SELECT MIN(effective_at) FROM ledger_posting
     WHERE organization_id = %s AND effective_at >= %s AND effective_at < %s
"""


# --- Months and instants ------------------------------------------------------------------------


def period_bounds(*, organization_id: UUID, month: date) -> tuple[datetime, datetime]:
    """Return the month's first instant in the organisation's zone, and the next month's."""
    zone = accounts.get_organization(organization_id=organization_id).time_zone
    return month_bounds(month, zone=zone)


def month_bounds(month: date, *, zone: str) -> tuple[datetime, datetime]:
    """Return the month's first instant in a zone, and the next month's."""
    return (
        first_instant_at(day=month, at=time.min, zone=zone),
        first_instant_at(day=next_month(month), at=time.min, zone=zone),
    )


def month_of(*, organization_id: UUID, at: datetime) -> date:
    """Return the first day of the month that it is in the organisation's zone."""
    zone = accounts.get_organization(organization_id=organization_id).time_zone
    return first_of(day_of(instant=at, zone=zone))


def closed_periods(
    *, organization_id: UUID, instants: Sequence[datetime]
) -> list[tuple[datetime, datetime, str]]:
    """
    Return the closing or closed months that have one of these instants: from, until, name.

    What lies before the first of them counts as closed with it: its opening balances stand on it.
    """
    rows = _not_open(organization_id).filter(ends_at__gt=min(instants))
    start = datetime.min.replace(tzinfo=UTC)
    found = []
    for row in rows:
        found.append((start, row.ends_at, str(row)))
        start = row.ends_at
    return found


@dataclass(frozen=True, slots=True)
class Dating:
    """When a fact is effective in the books, and what its entry's metadata says of that."""

    effective_at: datetime
    metadata: Mapping[str, str]


def date_facts(*, organization_id: UUID, instants: Collection[datetime]) -> dict[datetime, Dating]:
    """
    Return by instant how a fact of then is dated, which cannot be refused for coming late.

    As it happened; where that month is closed, or closing, at the first instant of the oldest open
    one, with the instant kept as `original_effective_at`. Such is a bank's line of a month that was
    closed before its statement came.
    """
    last = last_closed(organization_id=organization_id) if instants else None
    return {
        at: Dating(at, {})
        if last is None or at >= last.ends_at
        else Dating(last.ends_at, {"original_effective_at": at.astimezone(UTC).isoformat()})
        for at in instants
    }


def last_closed(*, organization_id: UUID) -> Period | None:
    """Return the latest month that is closing or closed: all before it are closed too."""
    return _not_open(organization_id).last()


def _not_open(organization_id: UUID) -> QuerySet[Period]:
    rows = Period.objects.filter(organization_id=organization_id)
    return rows.exclude(state=PeriodState.OPEN).order_by("month")


# --- Rows ---------------------------------------------------------------------------------------


def find_period(*, organization_id: UUID, month: date) -> Period | None:
    """Return the row of a month, if somebody ever asked to close it."""
    return Period.objects.filter(organization_id=organization_id, month=month).first()


def get_period(*, organization_id: UUID, period_id: UUID) -> Period:
    """
    Return one period, unlocked.

    :raises PeriodNotFound: if the organisation has no such period
    """
    found = Period.objects.filter(organization_id=organization_id, id=period_id).first()
    if found is None:
        raise errors.PeriodNotFound("There is no such period.")
    return found


def periods(*, organization_id: UUID, ids: Collection[UUID] | None = None) -> list[Period]:
    """Return these periods, or all there are rows of, in the order of months, with whose."""
    rows = Period.objects.filter(organization_id=organization_id).select_related("organization")
    return list((rows if ids is None else rows.filter(id__in=ids)).order_by("month"))


def lock_periods(*, organization_id: UUID) -> dict[UUID, Period]:
    """Return every period of the organisation, locked in the order of months."""
    # All of them: whether a month is in turn depends on its neighbors, and a close of one month
    # and the opening of the one before must not pass each other. No posting waits for these.
    rows = (
        Period.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id)
        .order_by("month")
    )
    return {row.id: row for row in rows}


def list_closing() -> list[tuple[UUID, UUID]]:
    """Return the organisation and id of every period that is on its way to be closed."""
    rows = Period.objects.filter(state=PeriodState.CLOSING).order_by("organization_id", "month")
    return list(rows.values_list("organization_id", "id"))


# --- What stands in the way ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing that stands in the way of a close: its code, and in words what is missing."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class PeriodView:
    """A month as it stands, whether or not there is a row of it."""

    organization_id: UUID
    month: date
    starts_at: datetime
    ends_at: datetime
    state: str
    row: Period | None = None

    @property
    def name(self) -> str:
        return f"{self.month:%Y-%m}"

    @property
    def is_stored(self) -> bool:
        """Say whether it was itself closed; one before the first that was is closed with that."""
        return self.row is not None and self.row.state == PeriodState.CLOSED


def view_period(*, organization_id: UUID, month: date, zone: str = "") -> PeriodView:
    """
    Return a month as it stands; one before the first closed month is closed with it.

    The organisation's `zone` is looked up where it is not given.
    """
    closed = ~Q(state=PeriodState.OPEN)
    rows = Period.objects.filter(
        Q(month=month) | Q(closed, month__gt=month), organization_id=organization_id
    )
    return _viewed(organization_id, month, rows.order_by("month")[:2], zone)


def _viewed(organization_id: UUID, month: date, rows: Iterable[Period], zone: str) -> PeriodView:
    """Return the month by its own row, if it is among these, and by what is closed after it."""
    found = {row.month: row for row in rows}
    row = found.get(month)
    is_before = any(
        other > month and later.state != PeriodState.OPEN for other, later in found.items()
    )
    if row is not None:
        return _of_row(row, is_before=is_before)
    zone = zone or accounts.get_organization(organization_id=organization_id).time_zone
    return _without_row(organization_id, month, zone, is_before=is_before)


def list_periods(*, organization_id: UUID, now: datetime, zone: str = "") -> list[PeriodView]:
    """
    Return every month from the first entry's to the current one, newest first.

    Of what lies more than `LISTED_YEARS` back, those that somebody asked to close. The
    organisation's `zone` is looked up where it is not given.
    """
    zone = zone or accounts.get_organization(organization_id=organization_id).time_zone
    rows = {row.month: row for row in Period.objects.filter(organization_id=organization_id)}
    closed = max(
        (month for month, row in rows.items() if row.state != PeriodState.OPEN), default=date.min
    )
    current = first_of(day_of(instant=now, zone=zone))
    first = first_entry_at(organization_id=organization_id)
    begun = first_of(day_of(instant=first, zone=zone)) if first else current
    months = {*rows, current}
    month = max(min({*months, begun}), current.replace(year=current.year - LISTED_YEARS))
    while month < max(months):
        months.add(month)
        month = next_month(month)
    return [
        _of_row(rows[month], is_before=month < closed)
        if month in rows
        else _without_row(organization_id, month, zone, is_before=month < closed)
        for month in sorted(months, reverse=True)
    ]


def _without_row(organization_id: UUID, month: date, zone: str, *, is_before: bool) -> PeriodView:
    state = PeriodState.CLOSED if is_before else PeriodState.OPEN
    return PeriodView(organization_id, month, *month_bounds(month, zone=zone), state.value)


def _of_row(row: Period, *, is_before: bool) -> PeriodView:
    is_closed_with_a_later_one = is_before and row.state == PeriodState.OPEN
    state = PeriodState.CLOSED.value if is_closed_with_a_later_one else row.state
    return PeriodView(row.organization_id, row.month, row.starts_at, row.ends_at, state, row=row)


def first_entry_at(*, organization_id: UUID) -> datetime | None:
    """Return the earliest business time that anything was posted with."""
    totals = MonthlyTotal.objects.filter(organization_id=organization_id, clock="effective")
    month = totals.aggregate(first=Min("month"))["first"]
    earliest, _, _ = _unsealed(organization_id, until=datetime.max.replace(tzinfo=UTC))
    if month is None:
        return earliest
    start = datetime.combine(month, time.min, tzinfo=UTC)
    end = datetime.combine(next_month(month), time.min, tzinfo=UTC)
    with connection.cursor() as cursor:
        cursor.execute(_FIRST_OF_MONTH, [organization_id, start, end])
        [sealed] = cursor.fetchone() or [None]
    return min(at for at in (earliest, sealed) if at is not None)


def next_to_close(*, organization_id: UUID) -> date | None:
    """
    Return the month in turn: after the last closed one. None where any may be the first.

    Where all were opened again it is the one that was the first.
    """
    return _in_turn(periods(organization_id=organization_id))


def _in_turn(rows: Sequence[Period]) -> date | None:
    closed = [row.month for row in rows if row.state != PeriodState.OPEN]
    if closed:
        return next_month(closed[-1])
    return next((row.month for row in rows if row.closings), None)


def months_to_close(*, organization_id: UUID, now: datetime) -> list[date]:
    """Return the month in turn; where any may be the first, those that are over, oldest first."""
    turn = next_to_close(organization_id=organization_id)
    if turn is not None:
        return [turn]
    found = list_periods(organization_id=organization_id, now=now)
    return [view.month for view in reversed(found) if view.ends_at + CLOSES_AFTER <= now]


def period_blockers(*, organization_id: UUID, month: date, now: datetime) -> list[Blocker]:
    """Return what keeps a month from being closed now; nothing where it is closed already."""
    return get_standing(organization_id=organization_id, month=month, now=now).blockers


@dataclass(frozen=True, slots=True)
class MonthStanding:
    """A month, what keeps it from being closed now, and the latest one that is not open."""

    view: PeriodView
    blockers: list[Blocker]
    last_closed: date | None


def get_standing(
    *, organization_id: UUID, month: date, now: datetime, zone: str = ""
) -> MonthStanding:
    """Return a month with what stands in the way of its close, of one read of all months."""
    rows = periods(organization_id=organization_id)
    view = _viewed(organization_id, month, rows, zone)
    turn = _in_turn(rows) if view.state == PeriodState.OPEN else None
    closed = [row.month for row in rows if row.state != PeriodState.OPEN]
    return MonthStanding(
        view, blockers_of(view, turn=turn, now=now), closed[-1] if closed else None
    )


def blockers_of(view: PeriodView, *, turn: date | None, now: datetime) -> list[Blocker]:
    """Return the same of a month that was read before, `turn` being the month to close next."""
    if view.state == PeriodState.CLOSED and (view.row is None or view.is_stored):
        return []
    if view.state == PeriodState.CLOSED:
        return [Blocker("period_closed_already", "It is closed with a later month.")]
    found = []
    if now < view.ends_at + CLOSES_AFTER:
        found.append(Blocker("period_not_over", "It is not over, or for less than an hour."))
    if view.state == PeriodState.OPEN and turn is not None and turn < view.month:
        found.append(Blocker("period_out_of_order", f"{turn:%B %Y} comes first: it is open."))
    closing_after = view.row.closing_after if view.row is not None else None
    _, unsealed, oldest = _unsealed(
        view.organization_id, until=view.ends_at, with_oldest=closing_after is not None
    )
    if unsealed:
        found.append(
            Blocker(
                "entries_unsealed",
                f"{unsealed:,} entries up to its end are not in the audit chain yet.",
            )
        )
    if closing_after is not None and oldest is not None and oldest < closing_after:
        found.append(
            Blocker(
                "transactions_open",
                "A transaction is under way that may have begun to post before the month froze.",
            )
        )
    return found


def count_unsealed(*, organization_id: UUID, until: datetime) -> int:
    """Return how many entries that are effective before `until` no total counts yet."""
    _, entries, _ = _unsealed(organization_id, until=until)
    return entries


def _unsealed(
    organization_id: UUID, *, until: datetime, with_oldest: bool = False
) -> tuple[datetime | None, int, int | None]:
    statement = _UNSEALED.format(
        unsealed=sql.filled(sql.UNSEALED), oldest=f"({_OLDEST})" if with_oldest else "NULL"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, {"org": organization_id, "until": until})
        earliest, entries, oldest = cursor.fetchone() or (None, 0, None)
        return earliest, entries, None if oldest is None else int(oldest)


def own_transaction() -> int:
    """Return the number of this transaction, which it gets now if it had none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text::bigint")
        [number] = cursor.fetchone() or [0]
        return int(number)


def oldest_transaction() -> int:
    """Return the lowest number among the transactions under way that may write to this database."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST)
        [number] = cursor.fetchone() or [0]
        return int(number)
