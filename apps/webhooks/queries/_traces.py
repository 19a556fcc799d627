"""The traces in which events happened."""

from collections.abc import Collection
from uuid import UUID

from apps.core.models import OutboxEvent


def list_traces(*, organization_id: UUID, event_ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the traces in which these events happened."""
    rows = OutboxEvent.objects.filter(organization_id=organization_id, id__in=event_ids)
    return dict(rows.values_list("id", "traceparent"))
