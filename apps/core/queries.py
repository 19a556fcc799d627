"""Reads of the core's own rows, and the only place here that locks them."""

from collections.abc import Sequence
from uuid import UUID

from apps.core.models import FeedHead, OutboxBatch, OutboxEvent


def lock_feed_head(*, organization_id: UUID) -> FeedHead:
    """Return the organisation's feed head, locked until the transaction ends."""
    FeedHead.objects.bulk_create([FeedHead(id=organization_id)], ignore_conflicts=True)
    return FeedHead.objects.select_for_update(no_key=True).get(id=organization_id)


def lock_leased_batches(
    *, organization_id: UUID, leases: dict[UUID, UUID]
) -> Sequence[OutboxBatch]:
    """Return the batches still held by these leases, in the order they were inserted."""
    batches = OutboxBatch.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id, id__in=leases
    )
    held = [batch for batch in batches.order_by("id") if batch.lease_token == leases[batch.id]]
    return sorted(held, key=lambda batch: (batch.inserted_at, batch.id))


def list_batch_events(
    *, organization_id: UUID, batch_id: UUID, public_only: bool
) -> Sequence[OutboxEvent]:
    """Return a batch's events in their order."""
    events = OutboxEvent.objects.filter(organization_id=organization_id, batch_id=batch_id)
    return list((events.filter(public=True) if public_only else events).order_by("ordinal"))
