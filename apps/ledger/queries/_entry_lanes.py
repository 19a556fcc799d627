"""The lanes along the journal's entries (`_search`)."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from apps.ledger.models import JournalEntry, Posting
from apps.ledger.queries import _bounds as bounds
from apps.ledger.queries._history import TICK
from apps.ledger.queries._matching import matching_entries, matching_postings, named_entries
from apps.ledger.queries._search import Ask, Place, Scanned, Search
from apps.ledger.rules import TRANSFER_KIND


def scan_entries(search: Search, ask: Ask, *, inclusive: bool = False) -> Scanned:
    """
    Follow entries by the narrowest of their indexes; with `inclusive` from the place's own on.

    An amount is looked for among postings, and in a window of time.
    """
    rows: QuerySet[Any] = (
        matching_postings(search) if search.has_amount else matching_entries(search)
    )
    key = "entry_id" if search.has_amount else "id"
    named = named_entries(search, or_kind=search.order != "id")
    if named is not None:
        rows = rows.filter(**{f"{key}__in": named})
        return Scanned(_entry_places(rows, search, ask, inclusive=inclusive))
    if search.order != "id":
        return _scan_window(rows, search, ask, inclusive=inclusive)
    lane = JournalEntry.objects.filter(organization_id=search.organization_id)
    has_index = search.kind not in {None, TRANSFER_KIND}
    if has_index:
        # Transfers are the many, and the index of kinds leaves them out.
        lane = lane.filter(kind=search.kind)
    decides = search.metadata or search.actor or search.has_amount
    if not (decides or search.kind == TRANSFER_KIND):
        return Scanned(_entry_places(lane, search, ask, inclusive=inclusive))
    if has_index and search.has_amount:
        portions = _of_each_entry(rows, lane)
    else:
        portions = _of_a_range(rows.filter(kind=search.kind) if has_index else rows, lane)
    return _scan_portions(portions, search, ask, inclusive=inclusive)


# Of a place and whether its own entry counts: the rows of a portion behind it, and the id of its
# last entry; None if the lane ends within it.
type _Portions = Callable[[Ask, bool], tuple[QuerySet[Any], UUID | None]]


def _of_a_range(rows: QuerySet[Any], lane: QuerySet[JournalEntry]) -> _Portions:
    """
    Return portions that are a range of ids: all the lane's entries, or postings of all entries.

    The index gives them in the order of the page, which ends with the last row that it wants.
    """
    name = "entry_id" if rows.model is Posting else "id"

    def portion(ask: Ask, inclusive: bool) -> tuple[QuerySet[Any], UUID | None]:  # noqa: FBT001  (as called)
        ids = _ids_ahead(lane, ask, inclusive=inclusive)[: bounds.SCAN_ROWS_MAX + 1]
        end = _last_of(ids)
        within = f"{name}__lte" if ask.newer else f"{name}__gte"
        return (rows if end is None else rows.filter(**{within: end})), end

    return portion


def _of_each_entry(rows: QuerySet[Posting], lane: QuerySet[JournalEntry]) -> _Portions:
    """
    Return portions of postings whose entries are named, as few of all in their range are.

    One statement says which, and which is the last: what is posted meanwhile is in neither.
    """

    def portion(ask: Ask, inclusive: bool) -> tuple[QuerySet[Any], UUID | None]:  # noqa: FBT001  (as called)
        ids = list(_ids_ahead(lane, ask, inclusive=inclusive)[: bounds.SCAN_ROWS_MAX + 1])
        end = ids[-1] if len(ids) > bounds.SCAN_ROWS_MAX else None
        return rows.filter(entry_id__in=ids), end

    return portion


def _scan_portions(portions: _Portions, search: Search, ask: Ask, *, inclusive: bool) -> Scanned:
    """Follow a lane by its ids, `SCAN_ROWS_MAX` at a time, for as long as patience lasts."""
    deadline = time.monotonic() + bounds.PATIENCE_SECONDS
    # One more than the page has, and one more where the place's own may have been shown.
    wanted = ask.limit + 1 + inclusive
    places: list[Place] = []
    while True:
        portion, end = portions(ask, inclusive)
        places += _entry_places(portion, search, ask, inclusive=inclusive)
        if end is None or len(places) >= wanted:
            return Scanned(places)
        # Behind the last row looked at, and all its postings.
        edge = Place("id", entry_id=end, number=0 if ask.newer else 2**15)
        if time.monotonic() > deadline:
            return Scanned(places, edge)
        # Still as many: of what was found here the place's own may be shown already.
        ask, inclusive = replace(ask, place=edge, limit=wanted - 1), False


def _ids_ahead(
    lane: QuerySet[JournalEntry], ask: Ask, *, inclusive: bool = False
) -> QuerySet[JournalEntry, UUID]:
    """Return the ids that lie ahead of the page's place, in the direction of the scan."""
    if ask.place is not None:
        operator = ("gt" if ask.newer else "lt") + ("e" if inclusive else "")
        lane = lane.filter(**{f"id__{operator}": ask.place.entry_id})
    return lane.order_by("id" if ask.newer else "-id").values_list("id", flat=True)


def _last_of(ids: QuerySet[JournalEntry, UUID]) -> UUID | None:
    """Return the last id of a whole portion; None if the lane ends within it."""
    return next(iter(ids[bounds.SCAN_ROWS_MAX :]), None)


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
    if _last_of(_ids_ahead(lane, Ask(1))[: bounds.SCAN_ROWS_MAX + 1]) is None:
        return Scanned(_entry_places(rows, search, ask, inclusive=inclusive))
    pace = _Pace(rows.model, search)
    deadline = time.monotonic() + bounds.PATIENCE_SECONDS
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
        pace.grow(seconds=ended - began, left=deadline - ended)
        edge = high if ask.newer else low
        if edge is not None and ended > deadline and next(steps, None) is not None:
            return Scanned(places, Place(search.order, instant=edge))
    return Scanned(places)


class _Pace:
    """How long the next step through a window of time is."""

    def __init__(self, model: type[JournalEntry | Posting], search: Search) -> None:
        self._rows = model.objects.filter(organization_id=search.organization_id)
        self._clock = search.order
        self._length = bounds.STEP_FIRST

    def grow(self, *, seconds: float, left: float) -> None:
        """Make the next one longer than one that took so long, if what is left is enough for it."""
        is_idle = seconds < bounds.STEP_SECONDS_IDLE
        times = bounds.STEP_GROWS if is_idle else min(bounds.STEP_GROWS, left / seconds)
        self._length *= max(1.0, times)

    def until(self, low: datetime, most: datetime) -> datetime:
        """Return where a step ends that begins at `low`."""
        return low + self._fit(most - low, lambda length: (low, low + length))

    def since(self, high: datetime, least: datetime) -> datetime:
        """Return where a step begins that ends at `high`."""
        return high - self._fit(high - least, lambda length: (high - length, high))

    def _fit(
        self, room: timedelta, span: Callable[[timedelta], tuple[datetime, datetime]]
    ) -> timedelta:
        """
        Return a length that Postgres expects no more rows in than a step may read.

        Where nothing was for long a step is long, and the next may begin in the middle of the
        busiest time: only the planner's own figures tell that before.
        """
        length = min(self._length, room)
        while length > bounds.STEP_LEAST and self._expected(*span(length)) > bounds.STEP_ROWS_MAX:
            self._length = length = length / bounds.STEP_GROWS
        return length

    def _expected(self, low: datetime, high: datetime) -> int:
        within = {f"{self._clock}__gte": low, f"{self._clock}__lt": high}
        plan = json.loads(self._rows.filter(**within).explain(format="json"))
        return int(plan[0]["Plan"]["Plan Rows"])


def _steps(
    search: Search, ask: Ask, pace: _Pace
) -> Iterator[tuple[datetime | None, datetime | None]]:
    """
    Yield spans that cover the window from the page's begin on, each as long as the pace then is.

    A span holds its beginning and not its end; None is open.
    """
    window = search.effective if search.order == "effective_at" else search.recorded
    first, end = window.starts_at or bounds.EARLIEST, window.ends_at
    # Beyond the present lie few rows: one span takes them all.
    present = search.now if end is None else min(search.now, end)
    if ask.place is not None and ask.newer:
        at = max(window.starts_at or ask.place.instant, ask.place.instant)
        while at < present:
            high = pace.until(at, present)
            yield at, high
            at = high
        if end is None or at < end:
            yield at, end
        return
    at = present
    if ask.place is not None:
        # With the rows at the very instant where the page before ended: its place tells them apart.
        at = ask.place.instant + TICK
    elif present != end:
        yield at, end
    is_open = window.starts_at is None
    # A page that begins at the last step's own edge goes on below it.
    while at > (first + TICK if is_open else first):
        low = pace.since(at, first)
        yield low, at
        at = low
    if is_open:
        # An imported journal may be of any year, and has few entries of such.
        yield None, at
