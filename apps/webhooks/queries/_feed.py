"""The event feed: what happened to an organization, in the order of its positions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db import connection

from apps.core import queries as core_queries
from apps.core.ids import an_hour_after
from apps.core.models import OutboxEvent
from apps.webhooks.errors import CursorExpired, EventNotFound

# The ordinal of a place behind all events of its batch.
BATCH_END: Final = 2**31 - 1
_POSITION_MAX: Final = 2**63 - 1
# How far one page looks for events of the types that are asked for (ADR 0112).
_BATCHES_MAX: Final = 2_000
_EVENTS_MAX: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class FeedPlace:
    """A place in an organization's feed: its batch's position, and the place in the batch."""

    position: int
    ordinal: int


@dataclass(frozen=True, kw_only=True)
class FeedPage:
    """A stretch of the feed, the place to go on from, and whether batches lie beyond that."""

    events: Sequence[OutboxEvent]
    end: FeedPlace | None
    has_more: bool


# The next batches up to either bound, and one at least, so that every page goes on. A second row
# says that there are more.
_STRETCH: Final = """
    SELECT COUNT(*), MIN(position), MAX(position), MIN(id)::uuid, MAX(id)::uuid
      FROM (SELECT id::text COLLATE "C" AS id, position, number <= %(batches_max)s
                   AND (number = 1 OR events <= %(events_max)s) AS is_near
              FROM (SELECT id, position, row_number() OVER along AS number,
                           SUM(event_count) OVER along AS events
                      FROM (SELECT id, position, event_count FROM core_outbox_batch
                             WHERE organization_id = %(organization)s AND position {reach} %(start)s
                             ORDER BY position {order} LIMIT %(batches_max)s + 1) AS next
                    WINDOW along AS (ORDER BY position {order})) AS counted) AS told
     GROUP BY is_near ORDER BY is_near DESC
"""
# Batch by batch in the feed's order, each along the index of its events.
_EVENTS: Final = """
    SELECT event.*, batch.position AS position
      FROM (SELECT id, position FROM core_outbox_batch
             WHERE organization_id = %(organization)s AND position BETWEEN %(low)s AND %(high)s
               AND id BETWEEN %(id_first)s AND %(id_last)s
             ORDER BY position {order} LIMIT %(count)s) AS batch
     CROSS JOIN LATERAL (
           SELECT * FROM core_outbox_event AS one
            WHERE one.organization_id = %(organization)s AND one.batch_id = batch.id
              AND one.id > batch.id AND one.id BETWEEN %(id_first)s AND %(id_end)s
              AND one.public AND one.type = ANY(%(types)s)
              AND one.ordinal {beyond}
                  CASE batch.position WHEN %(position)s THEN %(ordinal)s ELSE %(outside)s END
            ORDER BY one.ordinal {order} LIMIT %(limit)s
     ) AS event
     ORDER BY batch.position {order}, event.ordinal {order}
     LIMIT %(limit)s
"""


def read_feed(
    *,
    organization_id: UUID,
    types: Collection[str],
    after: FeedPlace | None,
    ascending: bool,
    limit: int,
) -> FeedPage:
    """
    Return the next events of these types, `limit` of them at most, each with its `position`.

    There may be fewer, or none, and more beyond: a page looks at so many batches, and its end lies
    behind those. Positions are given under one lock after COMMIT, so whoever follows in ascending
    order misses nothing and meets nothing twice.

    :raises CursorExpired: if `after` lies before the oldest batch that is kept
    """
    walk = _Walk(organization_id, sorted(types), ascending)
    page = walk.read(after, limit)
    # Asked after the events: what is there by now was there when they were read.
    if after is not None and _is_expired(organization_id, after):
        raise CursorExpired("What followed is no longer kept; begin again without a cursor.")
    return page


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Batches of the feed that follow one another: whether more lie beyond, and their bounds."""

    has_more: bool
    count: int
    low: int
    high: int
    id_first: UUID
    id_last: UUID


@dataclass(frozen=True, slots=True)
class _Walk:
    """One direction through the events of some types in one organization's feed."""

    organization_id: UUID
    types: Sequence[str]
    ascending: bool

    def read(self, after: FeedPlace | None, limit: int) -> FeedPage:
        """Return the page that follows a place."""
        found: list[OutboxEvent] = []
        place, has_more = after, bool(self.types)
        # Each batch of the feed has a public event, so who may read all has a full page at once.
        for batches_max in (limit + 1, _BATCHES_MAX):
            stretch = self._find_stretch(place, batches_max) if has_more else None
            if stretch is None:
                return FeedPage(events=found, end=place, has_more=False)
            found += self._list_events(stretch, place, limit + 1 - len(found))
            if len(found) > limit:
                end = self._between(found[limit - 1], found[limit])
                return FeedPage(events=found[:limit], end=end, has_more=True)
            place = self._behind(stretch.high if self.ascending else stretch.low)
            has_more = stretch.has_more
        return FeedPage(events=found, end=place, has_more=has_more)

    def _find_stretch(self, place: FeedPlace | None, batches_max: int) -> _Stretch | None:
        """Return the batches with events beyond a place, or None at the end of the feed."""
        values: dict[str, Any] = {
            "organization": self.organization_id,
            "start": self._start(place),
            "batches_max": batches_max,
            "events_max": _EVENTS_MAX,
        }
        with connection.cursor() as cursor:
            cursor.execute(self._directed(_STRETCH), values)
            found = cursor.fetchall()
        return _Stretch(len(found) > 1, *found[0]) if found else None

    def _start(self, place: FeedPlace | None) -> int:
        """Return the position of the first batch that has events beyond a place."""
        if place is None:
            return 0 if self.ascending else _POSITION_MAX
        if place != self._behind(place.position):
            return place.position
        return min(place.position + 1, _POSITION_MAX) if self.ascending else place.position - 1

    def _list_events(
        self, stretch: _Stretch, place: FeedPlace | None, limit: int
    ) -> list[OutboxEvent]:
        """Return the events of these batches that lie beyond a place."""
        values = {
            "organization": self.organization_id,
            "types": self.types,
            "low": stretch.low,
            "high": stretch.high,
            "count": stretch.count,
            "id_first": stretch.id_first,
            "id_last": stretch.id_last,
            # Events are made with their batch, so batches lead to the weeks of their events.
            "id_end": an_hour_after(stretch.id_last),
            "position": place.position if place else None,
            "ordinal": place.ordinal if place else None,
            "outside": -1 if self.ascending else BATCH_END,
            "limit": limit,
        }
        return list(OutboxEvent.objects.raw(self._directed(_EVENTS), values))

    def _directed(self, sql: str) -> str:
        if self.ascending:
            return sql.format(reach=">=", beyond=">", order="ASC")
        return sql.format(reach="<=", beyond="<", order="DESC")

    def _between(self, last: OutboxEvent, following: OutboxEvent) -> FeedPlace:
        """Return the place between two events that follow one another."""
        position = _position(last)
        if _position(following) != position:
            return self._behind(position)
        return FeedPlace(position=position, ordinal=last.ordinal)

    def _behind(self, position: int) -> FeedPlace:
        """
        Return the place behind a whole batch, in this direction.

        A follower's is still a place in the feed once that batch is no longer kept.
        """
        return FeedPlace(position=position, ordinal=BATCH_END if self.ascending else 0)


def _position(event: OutboxEvent) -> int:
    position: int = event.position  # type: ignore[attr-defined]  # selected beside the columns
    return position


def _is_expired(organization_id: UUID, place: FeedPlace) -> bool:
    dropped = core_queries.get_dropped_position(organization_id=organization_id)
    # Who has seen all of the last batch that went has missed nothing.
    is_before = (place.position, place.ordinal) < (dropped, BATCH_END)
    return dropped > 0 and is_before


def get_event(*, organization_id: UUID, event_id: UUID) -> OutboxEvent:
    """
    Return one public event.

    :raises EventNotFound: if the organization has no such event
    """
    found = OutboxEvent.objects.filter(
        organization_id=organization_id, id=event_id, public=True
    ).first()
    if found is None:
        raise EventNotFound("No such event.")
    return found
