"""Reads of the core's own rows, and the only place here that locks them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from apps.core.actors import Actor
from apps.core.events import event_classes
from apps.core.ids import an_hour_after, first_id
from apps.core.models import (
    AuditEvent,
    EventWork,
    FeedHead,
    IdempotencyKey,
    OutboxBatch,
    OutboxEvent,
)
from apps.core.work import OPEN, SET_ASIDE, WorkRow

# Whole batches, as many as hold about `limit` events, and one at least: a reader moves on by batch.
# Batch by batch, whatever the statistics say, or all events of an organization might be read for a
# few. They are made with their batch, each after it: the weeks before are not looked into.
_FEED_PORTION: Final = """
    WITH near AS MATERIALIZED (
        SELECT id, position,
               SUM(event_count) OVER (ORDER BY position) - event_count AS events_before
          FROM core_outbox_batch
         WHERE organization_id = %(org)s AND position > %(after)s
         ORDER BY position LIMIT %(limit)s
    )
    SELECT batch.position, event.aggregate_id
      FROM near AS batch
      LEFT JOIN LATERAL (
           SELECT aggregate_id, ordinal FROM core_outbox_event
            WHERE organization_id = %(org)s AND batch_id = batch.id AND id > batch.id
              AND name = %(name)s OFFSET 0) AS event ON TRUE
     WHERE batch.events_before < %(limit)s
     ORDER BY batch.position, event.ordinal
"""
_FEED_REST: Final = """
    SELECT COUNT(*), MIN(batch.inserted_at)
      FROM core_outbox_batch AS batch
     CROSS JOIN LATERAL (
           SELECT FROM core_outbox_event
            WHERE organization_id = %(org)s AND batch_id = batch.id AND id > batch.id
              AND name = %(name)s OFFSET 0) AS event
     WHERE batch.organization_id = %(org)s AND batch.public
       AND (batch.position > %(after)s OR batch.position IS NULL)
"""
# The nearest earlier event whose work was not set aside answers for all before it: it waited for
# them itself. An event with a row of its own is no longer its batch's. The condition on journal
# entries is their index's: they have one event each, and nothing comes before it.
_EARLIER: Final = """
    SELECT mine.id, nearest.id
      FROM core_outbox_event AS mine
     CROSS JOIN LATERAL (
           SELECT work.id, work.state
             FROM core_outbox_event AS earlier
             JOIN core_event_work AS work
               ON work.organization_id = earlier.organization_id
              AND work.batch_id = earlier.batch_id
              AND work.consumer = %(consumer)s AND work.id <> ALL(%(rows)s)
              AND (work.ordinal = earlier.ordinal
                   OR (work.ordinal IS NULL
                       AND (work.state = 'done' OR work.next_ordinal <= earlier.ordinal)))
            WHERE earlier.organization_id = mine.organization_id
              AND earlier.aggregate_type = mine.aggregate_type
              AND earlier.aggregate_id = mine.aggregate_id
              AND earlier.sequence < mine.sequence
              AND earlier.public AND earlier.aggregate_type <> 'journal_entry'
              AND work.state <> 'quarantined'
            ORDER BY earlier.sequence DESC, work.ordinal IS NULL
            LIMIT 1
     ) AS nearest
     WHERE mine.organization_id = %(org)s AND mine.aggregate_type <> 'journal_entry'
       AND mine.id = ANY(%(events)s)
       AND nearest.state IN ('pending', 'leased')
"""
_OPEN_WORK: Final = """
    SELECT id FROM core_event_work
     WHERE organization_id = %(org)s AND id = ANY(%(ids)s) AND state IN ('pending', 'leased')
     ORDER BY id FOR SHARE SKIP LOCKED
"""


def lock_feed_head(*, organization_id: UUID) -> FeedHead:
    """Return the organisation's feed head, locked until the transaction ends."""
    FeedHead.objects.bulk_create([FeedHead(organization_id=organization_id)], ignore_conflicts=True)
    return FeedHead.objects.select_for_update(no_key=True).get(organization_id=organization_id)


def lock_unnumbered_batches(*, organization_id: UUID, limit: int) -> dict[UUID, str]:
    """
    Lock the oldest committed batches with public events and no position.

    Return their ids, in order, each with the trace in which it was committed. Whoever calls this
    holds the feed head: under its lock nobody else gives positions.
    """
    batches = OutboxBatch.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id, public=True, position=None
    )
    oldest = batches.order_by("inserted_at", "id")[:limit]
    return dict(oldest.values_list("id", "traceparent"))


def find_work_for_update[M: WorkRow](model: type[M], *, row_id: UUID) -> M | None:
    """Return the work row locked, whoever has leased it, or None."""
    return model.objects.select_for_update(no_key=True).filter(id=row_id).first()


def list_batch_events(
    *, organization_id: UUID, batch_id: UUID, first: int, limit: int
) -> Sequence[OutboxEvent]:
    """Return at most `limit` public events of a batch in their order, from ordinal `first` on."""
    events = _public_events(organization_id, [batch_id]).filter(ordinal__gte=first)
    return list(events.order_by("ordinal")[:limit])


def list_events_of_rows(
    *, organization_id: UUID, rows: Collection[EventWork], events_max: int
) -> dict[UUID, list[OutboxEvent]]:
    """
    Return the public events of the first of these rows by row, in the feed's order.

    A row is of a whole batch or of one event of it. As many rows as have no more than `events_max`
    events together; none if the first has more.
    """
    batches = OutboxBatch.objects.filter(organization_id=organization_id).in_bulk(
        {row.batch_id for row in rows}
    )
    taken: dict[tuple[UUID, int | None], UUID] = {}
    room = events_max
    for row in sorted(
        rows, key=lambda row: (batches[row.batch_id].position or 0, row.ordinal or 0)
    ):
        room -= batches[row.batch_id].event_count if row.ordinal is None else 1
        if room < 0:
            break
        taken[row.batch_id, row.ordinal] = row.id
    found: dict[UUID, list[OutboxEvent]] = {id_: [] for id_ in taken.values()}
    if taken:
        events = _public_events(organization_id, list({batch_id for batch_id, _ in taken}))
        ordinals = {ordinal for _, ordinal in taken if ordinal is not None}
        if ordinals:
            whole = Q(batch_id__in=[batch_id for batch_id, ordinal in taken if ordinal is None])
            # Of other batches too, where they have as many: those are few, and passed over.
            events = events.filter(whole | Q(ordinal__in=ordinals))
        for event in events.order_by("ordinal"):
            row_id = taken.get((event.batch_id, None)) or taken.get((event.batch_id, event.ordinal))
            if row_id is not None:
                found[row_id].append(event)
    return found


def _public_events(organization_id: UUID, batch_ids: Sequence[UUID]) -> QuerySet[OutboxEvent]:
    """Return the public events of these batches: only the weeks that hold some are looked into."""
    return OutboxEvent.objects.filter(
        organization_id=organization_id,
        batch_id__in=batch_ids,
        public=True,
        # Events are made with their batch, each after it.
        id__gt=min(batch_ids),
        id__lt=an_hour_after(max(batch_ids)),
    )


def find_earlier_work(
    *, rows: Sequence[EventWork], events: Sequence[OutboxEvent], among: bool = False
) -> dict[UUID, UUID]:
    """
    Return which of these rows' events are to wait, each with the open row of an earlier one.

    Earlier is what has a lower sequence of the same aggregate, in a row that is none of these, or
    also `among` them; the rows are of one consumer and organisation. What was quarantined holds
    nothing back.
    """
    later = [event for event in events if event.sequence > 1]
    if not later:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            _EARLIER,
            {
                "org": rows[0].organization_id,
                "consumer": rows[0].consumer,
                "rows": [] if among else [row.id for row in rows],
                "events": [event.id for event in later],
            },
        )
        return dict(cursor.fetchall())


def lock_open_event_work(*, organization_id: UUID, ids: Collection[UUID]) -> set[UUID]:
    """
    Return which of these rows are open and in nobody's hands, locked so that none is worked.

    Nobody is waited for, and who claims passes over them. Several may hold them so at once.
    """
    with connection.cursor() as cursor:
        cursor.execute(_OPEN_WORK, {"org": organization_id, "ids": sorted(ids)})
        return {id_ for (id_,) in cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class FeedPortion:
    """What events of one name are about, over some batches of a feed, in its order."""

    last_position: int
    aggregate_ids: tuple[str, ...]


def find_feed_portion(
    *, organization_id: UUID, name: str, after: int, limit: int
) -> FeedPortion | None:
    """
    Return what follows batch `after` of the organisation's feed, or None at its end.

    Batches come whole, and those without an event of this name count too. Positions are given
    without gaps by one relay at a time, so going on from `last_position` misses and repeats none.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _FEED_PORTION, {"org": organization_id, "name": name, "after": after, "limit": limit}
        )
        rows = cursor.fetchall()
    if not rows:
        return None
    return FeedPortion(rows[-1][0], tuple(about for _, about in rows if about is not None))


def count_feed_rest(*, organization_id: UUID, name: str, after: int) -> tuple[int, datetime | None]:
    """
    Return how many events of this name follow batch `after`, and when the first of them came.

    Those whose batch has no position yet are counted too.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FEED_REST, {"org": organization_id, "name": name, "after": after})
        [(count, oldest)] = cursor.fetchall()
    return count, oldest


def list_feed_positions() -> dict[UUID, int]:
    """Return the last position given in each organisation's feed."""
    return dict(FeedHead.objects.values_list("organization_id", "last_position"))


def get_dropped_position(*, organization_id: UUID) -> int:
    """Return up to which position an organisation's feed is no longer kept; 0 if all of it is."""
    heads = FeedHead.objects.filter(organization_id=organization_id)
    return heads.values_list("dropped_position", flat=True).first() or 0


def has_batch_before(*, organization_id: UUID, after: int, before: UUID) -> bool:
    """Say whether a batch of the feed beyond position `after` has an id below `before`."""
    return OutboxBatch.objects.filter(
        organization_id=organization_id, position__gt=after, id__lt=before
    ).exists()


# From one organization to the next, whatever each has: their batches are not read.
_UNNUMBERED_ORGANIZATIONS: Final = """
    WITH RECURSIVE walk (id) AS (
        SELECT %(first)s::uuid
         UNION ALL
        SELECT next.organization_id
          FROM walk CROSS JOIN LATERAL (
               SELECT organization_id FROM core_outbox_batch
                WHERE public AND position IS NULL AND organization_id > walk.id
                ORDER BY organization_id, inserted_at, id
                LIMIT 1) AS next
    )
    SELECT id FROM walk OFFSET 1 LIMIT %(limit)s
"""


def list_unnumbered_organizations(*, limit: int) -> list[UUID]:
    """Return organizations with committed batches that wait for their position, `limit` at most."""
    with connection.cursor() as cursor:
        cursor.execute(_UNNUMBERED_ORGANIZATIONS, {"first": UUID(int=0), "limit": limit})
        return [organization_id for (organization_id,) in cursor.fetchall()]


def has_unnumbered_before(before: UUID) -> bool:
    """Say whether a batch with an id below `before` still waits for its position."""
    return OutboxBatch.objects.filter(public=True, position=None, id__lt=before).exists()


def has_open_work_before(before: UUID) -> bool:
    """Say whether a consumer is not done with a batch whose id is below `before`."""
    # Apart, since each walks an index of its own.
    older = EventWork.objects.filter(batch_id__lt=before)
    return any(older.filter(state__in=states).exists() for states in (OPEN, SET_ASIDE))


def find_event_data(
    *, organization_id: UUID, name: str, aggregate_id: str
) -> dict[str, object] | None:
    """Return the data of the one event of this name about an aggregate, or None."""
    events = OutboxEvent.objects.filter(
        organization_id=organization_id, name=name, aggregate_id=aggregate_id
    )
    return events.values_list("data", flat=True).first()


def list_events_about(
    *, organization_ids: Collection[UUID], aggregate_id: str
) -> QuerySet[OutboxEvent]:
    """
    Return the events about one thing, by its printed id, whatever kind of thing it is.

    Those of a journal entry are not found: no index leads to them (ADR 0056).
    """
    kinds = {event.aggregate_type for event in event_classes()}
    return OutboxEvent.objects.filter(
        organization_id__in=organization_ids,
        aggregate_type__in=sorted(kinds),
        aggregate_id=aggregate_id,
    ).exclude(aggregate_type="journal_entry")


def find_latest_act(
    *, organization_id: UUID, act: str, subject: tuple[str, str]
) -> tuple[datetime, Mapping[str, object]] | None:
    """Return when an act was last done to a subject and what it left, or None."""
    rows = AuditEvent.objects.filter(
        organization_id=organization_id, subject_type=subject[0], subject_id=subject[1], act=act
    )
    row = rows.order_by("-id").first()
    return None if row is None else (row.recorded_at, row.after or {})


def list_acts_since(
    *, organization_id: UUID, actor: Actor, act: str, since: datetime, limit: int
) -> list[datetime]:
    """Return when an actor did an act here since then, the latest first, at most `limit`."""
    rows = AuditEvent.objects.filter(
        organization_id=organization_id, actor_id=actor.id, act=act, id__gte=first_id(since)
    )
    return list(rows.order_by("-id").values_list("recorded_at", flat=True)[:limit])


def get_act_result(*, organization_id: UUID, audit_event_id: UUID) -> dict[str, Any]:
    """Return what an act left, as its row of the trail has it."""
    row = AuditEvent.objects.get(organization_id=organization_id, id=audit_event_id)
    return row.after or {}


def is_key_used(*, organization_id: UUID, key: str) -> bool:
    """
    Say whether an idempotency key stands for a request that was answered already.

    For what is judged by the clock before the key is claimed: a replay was in time once.
    """
    return IdempotencyKey.objects.filter(organization_id=organization_id, key=key).exists()
