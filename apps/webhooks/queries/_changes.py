"""What is being changed at an endpoint, and the portions of what is open there."""

from uuid import UUID

from apps.webhooks.models import WebhookChange, WebhookDelivery
from apps.webhooks.states import DeliveryStatus

# Each is the order of an index on what has that status alone, so that a portion reads no more.
_ORDERS = {
    DeliveryStatus.PENDING: ("aggregate_id", "sequence"),
    DeliveryStatus.PAUSED: ("id",),
}


def find_change_for_update(*, organization_id: UUID, endpoint_id: UUID) -> WebhookChange | None:
    """Return the row of an endpoint's changes, locked; None if none was ever left to a worker."""
    rows = WebhookChange.objects.filter(organization_id=organization_id, endpoint_id=endpoint_id)
    return rows.select_for_update(no_key=True).first()


def has_pending(*, organization_id: UUID, endpoint_id: UUID) -> bool:
    """Say whether something waits to be sent to this endpoint."""
    return WebhookDelivery.objects.filter(
        organization_id=organization_id, endpoint_id=endpoint_id, status=DeliveryStatus.PENDING
    ).exists()


def lock_open_deliveries(
    *, organization_id: UUID, endpoint_id: UUID, status: DeliveryStatus, limit: int
) -> list[UUID]:
    """Return at most so many of the endpoint's deliveries that wait, or are set aside, locked."""
    rows = WebhookDelivery.objects.filter(
        organization_id=organization_id, endpoint_id=endpoint_id, status=status
    )
    portion = rows.order_by(*_ORDERS[status]).select_for_update(no_key=True)
    return list(portion.values_list("id", flat=True)[:limit])
