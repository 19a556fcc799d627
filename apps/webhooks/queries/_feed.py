"""The event feed: what happened to an organization, in the order of its positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from apps.core import queries as core_queries
from apps.core.models import OutboxEvent
from apps.webhooks.errors import CursorExpired, EventNotFound

# The ordinal of a place behind all events of its batch.
BATCH_END: Final = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class FeedPlace:
    """A place in an organization's feed: its batch's position, and the place in the batch."""

    position: int
    ordinal: int


_FEED = """
    SELECT event.*, batch.position AS position
      FROM core_outbox_batch AS batch
      JOIN core_outbox_event AS event
        ON event.organization_id = batch.organization_id AND event.batch_id = batch.id
     WHERE batch.organization_id = %(organization)s AND batch.position IS NOT NULL
       AND event.public AND (%(types)s::text[] IS NULL OR event.type = ANY(%(types)s))
       {after}
     ORDER BY batch.position {order}, event.ordinal {order}
     LIMIT %(limit)s
"""
_AFTER = """
       AND batch.position {reach} %(position)s
       AND (batch.position, event.ordinal) {beyond} (%(position)s, %(ordinal)s)
"""


def list_events(
    *,
    organization_id: UUID,
    types: Sequence[str] | None,
    after: FeedPlace | None,
    ascending: bool,
    limit: int,
) -> list[OutboxEvent]:
    """
    Return the next events of the feed, each with its `position`.

    Positions are given under one lock after COMMIT, so whoever follows in ascending order misses
    nothing and meets nothing twice.

    :raises CursorExpired: if `after` lies before the oldest batch that is kept
    """
    condition = _AFTER.format(reach=">=" if ascending else "<=", beyond=">" if ascending else "<")
    sql = _FEED.format(after=condition if after else "", order="ASC" if ascending else "DESC")
    parameters = {
        "organization": organization_id,
        "types": types,
        "limit": limit,
        "position": after.position if after else None,
        "ordinal": after.ordinal if after else None,
    }
    found = list(OutboxEvent.objects.raw(sql, parameters))
    # Asked after the events: what is there by now was there when they were read.
    if after is not None and _is_expired(organization_id, after):
        raise CursorExpired("What followed is no longer kept; begin again without a cursor.")
    return found


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
