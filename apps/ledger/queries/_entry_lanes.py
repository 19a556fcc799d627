"""The lanes along the journal's entries (`_search`)."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Q, QuerySet

from apps.ledger.models import JournalEntry, Posting
from apps.ledger.queries import _bounds as bounds
from apps.ledger.queries._matching import matching_entries, matching_postings, named_entries
from apps.ledger.queries._search import Ask, Place, Scanned, Search
from apps.ledger.rules import TRANSFER_KIND

_TICK: Final = timedelta(microseconds=1)


def scan_entries(search: Search, ask: Ask, *, inclusive: bool = False) -> Scanned:
    """
    Follow entries by the narrowest of their indexes; with `inclusive` from the place's own on.

    An amount is looked for among postings, and in a window of time.
    """
    rows: QuerySet[Any] = (
        matching_postings(search) if search.has_amount else matching_entries(search)
    )
    key = "entry_id" if search.has_amount else "id"
    named = named_entries(search)
    if named is not None:
        rows = rows.filter(**{f"{key}__in": named})
        return Scanned(_entry_places(rows, search, ask, inclusive=inclusive))
    if search.order != "id":
        return _scan_window(rows, search, ask, inclusive=inclusive)
    lane = JournalEntry.objects.filter(organization_id=search.organization_id)
    if search.kind not in {None, TRANSFER_KIND}:
        # Transfers are the many, and the index of kinds leaves them out.
        lane = lane.filter(kind=search.kind)
    decides = search.metadata or search.actor or search.has_amount
    if not (decides or search.kind == TRANSFER_KIND):
        return Scanned(_entry_places(rows, search, ask, inclusive=inclusive))
    return _scan_portions(rows, lane, search, ask, inclusive=inclusive)


def _scan_portions(
    rows: QuerySet[Any], lane: QuerySet[JournalEntry], search: Search, ask: Ask, *, inclusive: bool
) -> Scanned:
    """Follow a lane by its ids, `SCAN_ROWS_MAX` at a time, for as long as patience lasts."""
    name = "entry_id" if rows.model is Posting else "id"
    within = f"{name}__lte" if ask.newer else f"{name}__gte"
    deadline = time.monotonic() + bounds.PATIENCE_SECONDS
    places: list[Place] = []
    while True:
        end = _row_ahead(lane, ask)
        portion = rows if end is None else rows.filter(**{within: end})
        places += _entry_places(portion, search, ask, inclusive=inclusive)
        if end is None or len(places) > ask.limit + inclusive:
            return Scanned(places)
        # Behind the last row looked at, and all its postings.
        edge = Place("id", entry_id=end, number=0 if ask.newer else 2**15)
        if time.monotonic() > deadline:
            return Scanned(places, edge)
        ask, inclusive = replace(ask, place=edge), False


def _row_ahead(lane: QuerySet[JournalEntry], ask: Ask) -> UUID | None:
    """Return the id as many rows ahead as a page looks at; None if the lane ends before."""
    if ask.place is not None and ask.place.order == "id":
        name = "id__gt" if ask.newer else "id__lt"
        lane = lane.filter(**{name: ask.place.entry_id})
    ids = lane.order_by("id" if ask.newer else "-id").values_list("id", flat=True)
    return next(iter(ids[bounds.SCAN_ROWS_MAX : bounds.SCAN_ROWS_MAX + 1]), None)


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
    pace = _Pace(bounds.STEP_FIRST)
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
        longer = self.length * bounds.STEP_GROWS
        self.length = longer if seconds < bounds.STEP_SECONDS_IDLE else min(longer, bounds.STEP_MAX)


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
            high = at + min(pace.length, present - at)
            yield at, high
            at = high
        if end is None or at < end:
            yield at, end
        return
    at = present
    if ask.place is not None:
        # With the rows at the very instant where the page before ended: its place tells them apart.
        at = ask.place.instant + _TICK
    elif present != end:
        yield at, end
    is_open = window.starts_at is None
    # A page that begins at the last step's own edge goes on below it.
    while at > (first + _TICK if is_open else first):
        low = at - min(pace.length, at - first)
        yield low, at
        at = low
    if is_open:
        # An imported journal may be of any year, and has few entries of such.
        yield None, at
