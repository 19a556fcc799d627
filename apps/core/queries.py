"""Reads of the core's own rows, and the only place here that locks them."""

from collections.abc import Sequence
from uuid import UUID

from apps.core.models import FeedHead, OutboxBatch, OutboxEvent
from apps.core.work import WorkRow


def lock_feed_head(*, organization_id: UUID) -> FeedHead:
    """Return the organisation's feed head, locked until the transaction ends."""
    FeedHead.objects.bulk_create([FeedHead(organization_id=organization_id)], ignore_conflicts=True)
    return FeedHead.objects.select_for_update(no_key=True).get(organization_id=organization_id)


def lock_unnumbered_batch_ids(*, organization_id: UUID, limit: int) -> list[UUID]:
    """
    Return, locked, the oldest committed batches with public events and no position, in order.

    Whoever calls this holds the feed head: under its lock nobody else gives positions.
    """
    batches = OutboxBatch.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id, public=True, position=None
    )
    return list(batches.order_by("inserted_at", "id").values_list("id", flat=True)[:limit])


def find_work_for_update[M: WorkRow](model: type[M], *, row_id: UUID) -> M | None:
    """Return the work row locked, whoever has leased it, or None."""
    return model.objects.select_for_update(no_key=True).filter(id=row_id).first()


def list_batch_events(
    *, organization_id: UUID, batch_id: UUID, public_only: bool, ordinal: int | None = None
) -> Sequence[OutboxEvent]:
    """Return a batch's events in their order, or the one at `ordinal`."""
    events = OutboxEvent.objects.filter(organization_id=organization_id, batch_id=batch_id)
    if ordinal is not None:
        events = events.filter(ordinal=ordinal)
    return list((events.filter(public=True) if public_only else events).order_by("ordinal"))
