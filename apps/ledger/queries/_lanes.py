"""The lanes that a search can take, each along one index (`_search`)."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import Exists, F, JSONField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from apps.ledger.models import Balance, EntryMetadata, JournalEntry, MonthlyTotal, Posting
from apps.ledger.queries._search import Ask, Place, Scanned, Search

# How many rows a page looks at that only a filter can decide on: some 50 ms.
SCAN_ROWS_MAX: Final = 10_000
# Up to so many entries with some metadata are sorted; more of them are met soon on the way.
CANDIDATES_MAX: Final = 5_000
LOOK_UPS_MAX: Final = 50_000
_INDEXES_OF_TEXTS: Final = frozenset({"entry_metadata", "later_entry_metadata"})
# A window of time is searched in growing steps until this long has passed. A step costs what lies
# in it, so beyond a month it grows only while nothing does.
_STEP_FIRST: Final = timedelta(hours=1)
_STEP_GROWS: Final = 8
_STEP_MAX: Final = timedelta(days=31)
_STEP_SECONDS_IDLE: Final = 0.01
_PATIENCE_SECONDS: Final = 0.1
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)

_FIRST_VERSION_SINCE: Final = """
    WITH RECURSIVE search(low, high) AS (
        SELECT 1::bigint, version + 1
          FROM ledger_balance WHERE organization_id = %(org)s AND id = %(account)s
        UNION ALL
        SELECT CASE WHEN p.recorded_at < %(at)s THEN m.middle + 1 ELSE s.low END,
               CASE WHEN p.recorded_at < %(at)s THEN s.high ELSE m.middle END
          FROM search AS s
          CROSS JOIN LATERAL (SELECT (s.low + s.high) / 2 AS middle) AS m
          JOIN ledger_posting AS p
            ON p.organization_id = %(org)s AND p.account_id = %(account)s
           AND p.account_version = m.middle
         WHERE s.low < s.high
    )
    SELECT low FROM search WHERE low = high
"""


# --- What a row has to match ------------------------------------------------------------------


def matching_entries(search: Search) -> QuerySet[JournalEntry]:
    """Return the organisation's entries that match, but for account and amount."""
    rows = JournalEntry.objects.filter(_within(search), organization_id=search.organization_id)
    if search.kind is not None:
        rows = rows.filter(kind=search.kind)
    if search.metadata:
        rows = rows.annotate(current=current_metadata()).filter(
            Q(current__contains=dict(search.metadata))
        )
    return rows


def current_metadata() -> Coalesce:
    """Return an entry's metadata as it is now: the newest annotation's, or else its own."""
    newest = EntryMetadata.objects.filter(
        organization_id=OuterRef("organization_id"), entry_id=OuterRef("id")
    ).order_by("-number")
    return Coalesce(
        Subquery(newest.values("metadata")[:1]), F("metadata"), output_field=JSONField()
    )


def _matching_postings(search: Search) -> QuerySet[Posting]:
    rows = Posting.objects.filter(
        _within(search), has_amount(search), organization_id=search.organization_id
    )
    if search.kind is None and not search.metadata:
        return rows
    return rows.filter(Exists(matching_entries(search).filter(id=OuterRef("entry_id"))))


def has_amount(search: Search) -> Q:
    """Return the condition on a posting's amount, whose sign is its side."""
    least = 1 if search.amount_min is None else search.amount_min
    most = search.amount_max
    if not search.has_amount:
        return Q()
    if most is None:
        return Q(amount_minor__gte=least) | Q(amount_minor__lte=-least)
    return Q(amount_minor__range=(least, most)) | Q(amount_minor__range=(-most, -least))


def _within(search: Search) -> Q:
    condition = Q()
    windows = {"effective_at": search.effective, "recorded_at": search.recorded}
    for name, window in windows.items():
        if window.starts_at is not None:
            condition &= Q(**{f"{name}__gte": window.starts_at})
        if window.ends_at is not None:
            condition &= Q(**{f"{name}__lt": window.ends_at})
    return condition


def _with_metadata(search: Search) -> list[UUID] | None:
    """
    Return the entries that have, or had, this metadata; None if that does not narrow the search.

    Asked for without an order, so that Postgres is free to look them up by what they are. Whether
    it is their metadata now is for the caller to see.
    """
    if not search.metadata:
        return None
    wanted = {
        "organization_id": search.organization_id,
        "metadata__contains": dict(search.metadata),
    }
    # Partial indexes: a row without metadata has none to be found by.
    own = JournalEntry.objects.filter(**wanted).exclude(metadata={})
    later = EntryMetadata.objects.filter(**wanted).exclude(metadata={})
    found: list[UUID] = []
    for ids in (own.values_list("id", flat=True), later.values_list("entry_id", flat=True)):
        some = ids[: CANDIDATES_MAX + 1]
        if _is_common(some):
            return None
        found += some
    return found if len(found) <= CANDIDATES_MAX else None


def _is_common(rows: QuerySet[Any, Any]) -> bool:
    """
    Say whether Postgres would look up many rows in an index of texts.

    That index is one for all organisations. What a large one has everywhere would be looked up for
    a small one that hardly has it; only the planner's own figures tell that before.
    """
    todo = [json.loads(rows.explain(format="json"))[0]["Plan"]]
    while todo:
        node = todo.pop()
        if node.get("Index Name") in _INDEXES_OF_TEXTS and node["Plan Rows"] > LOOK_UPS_MAX:
            return True
        todo += node.get("Plans", [])
    return False


# --- An account's versions --------------------------------------------------------------------


def scan_account(search: Search, account_id: UUID, ask: Ask) -> Scanned:
    """
    Follow an account's postings by their versions, which have no gaps.

    So that a search ends, it looks at `SCAN_ROWS_MAX` of them where a filter decides.
    """
    rows = _matching_postings(search).filter(account_id=account_id)
    named = _named_entries(search)
    if named is not None:
        rows = rows.filter(entry_id__in=named)
        if ask.place is not None:
            name = "account_version__gt" if ask.newer else "account_version__lt"
            rows = rows.filter(**{name: ask.place.version})
        return Scanned(_versions(rows, ask))
    places: list[Place] = []
    left = SCAN_ROWS_MAX
    for low, high in _ahead(_version_ranges(search, account_id), ask):
        looked = min(left, high - low + 1)
        span = (low, low + looked - 1) if ask.newer else (high - looked + 1, high)
        places += _versions(rows.filter(account_version__range=span), ask)
        left -= looked
        if len(places) > ask.limit:
            break
        if not left:
            stopped = span[1] if ask.newer else span[0]
            return Scanned(places, Place("account_version", version=stopped))
    return Scanned(places)


def _named_entries(search: Search) -> list[UUID] | None:
    """Return the few entries that a reference or metadata name; None if nothing names them."""
    if search.reference is None:
        return _with_metadata(search)
    named = matching_entries(search).filter(reference=search.reference)
    return list(named.values_list("id", flat=True))


def _versions(rows: QuerySet[Posting], ask: Ask) -> list[Place]:
    rows = rows.order_by("account_version" if ask.newer else "-account_version")
    found = rows.values_list("account_version", "entry_id", "number")
    return [
        Place("account_version", version=version, entry_id=entry_id, number=number)
        for version, entry_id, number in found[: ask.limit + 1]
    ]


def _ahead(ranges: Sequence[tuple[int, int]], ask: Ask) -> Iterator[tuple[int, int]]:
    """Yield what of these ranges lies ahead of the asked place, in the direction of the scan."""
    place = ask.place
    for low, high in ranges if ask.newer else reversed(ranges):
        least = max(low, place.version + 1) if place is not None and ask.newer else low
        most = min(high, place.version - 1) if place is not None and not ask.newer else high
        if least <= most:
            yield least, most


def _version_ranges(search: Search, account_id: UUID) -> list[tuple[int, int]]:
    """
    Return the ranges of versions, ascending, outside which no posting lies in the windows.

    Versions follow the server's clock, so a window of it is found by bisection. A window of
    business time is narrowed by the totals of its months; what is not sealed yet has no totals.
    """
    first, last = 1, _last_version(search, account_id)
    if search.recorded.starts_at is not None:
        first = _first_version_since(search, account_id, search.recorded.starts_at)
    if search.recorded.ends_at is not None:
        last = _first_version_since(search, account_id, search.recorded.ends_at) - 1
    ranges = [(first, last)] if search.effective.is_open else _effective_ranges(search, account_id)
    return [
        (max(low, first), min(high, last))
        for low, high in ranges
        if max(low, first) <= min(high, last)
    ]


def _last_version(search: Search, account_id: UUID) -> int:
    return (
        Balance.objects.filter(organization_id=search.organization_id, id=account_id)
        .values_list("version", flat=True)
        .first()
        or 0
    )


def _first_version_since(search: Search, account_id: UUID, instant: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            _FIRST_VERSION_SINCE,
            {"org": search.organization_id, "account": account_id, "at": instant},
        )
        row = cursor.fetchone()
        return int(row[0]) if row else 1


def _effective_ranges(search: Search, account_id: UUID) -> list[tuple[int, int]]:
    by_month = Q(clock="effective")
    window = search.effective
    if window.starts_at is not None:
        by_month &= Q(month__gte=window.starts_at.astimezone(UTC).date().replace(day=1))
    if window.ends_at is not None:
        by_month &= Q(month__lte=window.ends_at.astimezone(UTC).date())
    # One statement, so that both clocks are of one moment of the sealer.
    totals = MonthlyTotal.objects.filter(
        by_month | Q(clock="recorded"),
        organization_id=search.organization_id,
        account_id=account_id,
    ).values_list("clock", "first_version", "last_version")
    rows = list(totals)
    sealed = max((last for clock, _, last in rows if clock == "recorded"), default=0)
    spans = [(first, last) for clock, first, last in rows if clock == "effective"]
    unsealed = (sealed + 1, _last_version(search, account_id))
    if not spans:
        return [unsealed]
    return [(min(first for first, _ in spans), max(last for _, last in spans)), unsealed]


# --- The entries' own order -------------------------------------------------------------------


def scan_entries(search: Search, ask: Ask, *, inclusive: bool = False) -> Scanned:
    """
    Follow entries by the narrowest of their indexes; with `inclusive` from the place's own on.

    An amount is looked for among postings, and in a window of time.
    """
    rows: QuerySet[Any] = (
        _matching_postings(search) if search.has_amount else matching_entries(search)
    )
    key = "entry_id" if search.has_amount else "id"
    named = _named_entries(search)
    if named is not None:
        rows = rows.filter(**{f"{key}__in": named})
        return Scanned(_entry_places(rows, search, ask, inclusive=inclusive))
    if search.order != "id":
        return _scan_window(rows, search, ask, inclusive=inclusive)
    lane = JournalEntry.objects.filter(organization_id=search.organization_id)
    if search.kind not in {None, "transfer"}:
        # Transfers are the many, and the index of kinds leaves them out.
        lane = lane.filter(kind=search.kind)
    end = None
    if search.metadata or search.has_amount or search.kind == "transfer":
        end = _row_ahead(lane, ask)
    if end is not None:
        name = f"{key}__lte" if ask.newer else f"{key}__gte"
        rows = rows.filter(**{name: end})
    places = _entry_places(rows, search, ask, inclusive=inclusive)
    if end is None or len(places) > ask.limit:
        return Scanned(places)
    # Behind the last row looked at, and all its postings.
    return Scanned(places, Place("id", entry_id=end, number=0 if ask.newer else 2**15))


def _row_ahead(lane: QuerySet[JournalEntry], ask: Ask) -> UUID | None:
    """Return the id as many rows ahead as a page looks at; None if the lane ends before."""
    if ask.place is not None and ask.place.order == "id":
        name = "id__gt" if ask.newer else "id__lt"
        lane = lane.filter(**{name: ask.place.entry_id})
    ids = lane.order_by("id" if ask.newer else "-id").values_list("id", flat=True)
    return next(iter(ids[SCAN_ROWS_MAX : SCAN_ROWS_MAX + 1]), None)


def _entry_places(rows: QuerySet[Any], search: Search, ask: Ask, *, inclusive: bool) -> list[Place]:
    """Return the places of entries in the direction of the scan, one more than is asked for."""
    key = "entry_id" if rows.model is Posting else "id"
    names = (key,) if search.order == "id" else (search.order, key)
    if ask.place is not None:
        rows = rows.filter(_beyond(names, ask.place, newer=ask.newer, inclusive=inclusive))
    found = rows.order_by(*names) if ask.newer else rows.order_by(*(f"-{name}" for name in names))
    values = found.values_list(*names)
    if rows.model is Posting:
        # Several postings of one entry may have the amount.
        values = values.distinct()
    # One more row than a page has, and one more entry in case all of the first was shown before.
    return [
        Place(search.order, entry_id=value[-1])
        if search.order == "id"
        else Place(search.order, instant=value[0], entry_id=value[-1])
        for value in values[: ask.limit + 1 + inclusive]
    ]


def _beyond(names: Sequence[str], place: Place, *, newer: bool, inclusive: bool) -> Q:
    """Return the condition of rows beyond a place in the order of these columns."""
    *clock, key = names
    operator = "gt" if newer else "lt"
    same = f"{key}__{operator}{'e' if inclusive else ''}"
    if not clock:
        return Q(**{same: place.entry_id})
    [name] = clock
    # The first condition alone bounds the range; the rest decides within it.
    return Q(**{f"{name}__{operator}e": place.instant}) & (
        Q(**{f"{name}__{operator}": place.instant})
        | Q(**{name: place.instant, same: place.entry_id})
    )


def _scan_window(rows: QuerySet[Any], search: Search, ask: Ask, *, inclusive: bool) -> Scanned:
    """
    Search a window of time by its block ranges, in steps from where the page begins.

    Block ranges hold rows of everybody, so a small organisation's entries, which the key finds
    sooner, are asked for at once.
    """
    lane = JournalEntry.objects.filter(organization_id=search.organization_id)
    if _row_ahead(lane, Ask(1)) is None:
        return Scanned(_entry_places(rows, search, ask, inclusive=inclusive))
    pace = _Pace(_STEP_FIRST)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    places: list[Place] = []
    steps = _steps(search, ask, pace)
    for low, high in steps:
        step = rows
        if low is not None:
            step = step.filter(**{f"{search.order}__gte": low})
        if high is not None:
            step = step.filter(**{f"{search.order}__lt": high})
        began = time.monotonic()
        places += _entry_places(step, search, ask, inclusive=inclusive)
        if len(places) > ask.limit + inclusive:
            break
        ended = time.monotonic()
        pace.grow(seconds=ended - began)
        edge = high if ask.newer else low
        if edge is not None and ended > deadline and next(steps, None) is not None:
            return Scanned(places, Place(search.order, instant=edge))
    return Scanned(places)


@dataclass(slots=True)
class _Pace:
    """How long the next step through a window of time is."""

    length: timedelta

    def grow(self, *, seconds: float) -> None:
        longer = self.length * _STEP_GROWS
        self.length = longer if seconds < _STEP_SECONDS_IDLE else min(longer, _STEP_MAX)


def _steps(
    search: Search, ask: Ask, pace: _Pace
) -> Iterator[tuple[datetime | None, datetime | None]]:
    """
    Yield spans that cover the window from the page's begin on, each as long as the pace then is.

    A span holds its beginning and not its end; None is open.
    """
    window = search.effective if search.order == "effective_at" else search.recorded
    first, end = window.starts_at or _EARLIEST, window.ends_at
    # Beyond the present lie few rows: one span takes them all.
    present = search.now if end is None else min(search.now, end)
    if ask.place is not None and ask.newer:
        at = max(first, ask.place.instant)
        while at < present:
            high = at + min(pace.length, present - at)
            yield at, high
            at = high
        if end is None or at < end:
            yield at, end
        return
    at = present
    if ask.place is not None:
        # With the rows at the very instant where the page before ended: its place tells them apart.
        at = ask.place.instant + timedelta(microseconds=1)
    elif present != end:
        yield at, end
    while at > first:
        low = at - min(pace.length, at - first)
        yield low, at
        at = low
