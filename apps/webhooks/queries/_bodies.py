"""What is sent of an event, as it was rendered."""

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from django.db.models import OuterRef, Subquery, Value
from django.db.models.functions import Coalesce

from apps.core.models import OutboxEvent
from apps.webhooks.models import WebhookBody


class Body(NamedTuple):
    """What is sent of an event, and the trace in which it happened."""

    content: bytes
    traceparent: str


def get_bodies(
    *, organization_id: UUID, event_ids: Collection[UUID], api_version: str
) -> dict[UUID, Body]:
    """Return the rendered bodies of these events in one version."""
    its_event = OutboxEvent.objects.filter(
        organization_id=organization_id, id=OuterRef("event_id")
    ).values("traceparent")
    rows = WebhookBody.objects.filter(
        organization_id=organization_id, event_id__in=event_ids, api_version=api_version
    ).values_list("event_id", "body", Coalesce(Subquery(its_event), Value("")))
    return {event_id: Body(bytes(body), trace) for event_id, body, trace in rows}


def list_traces(*, organization_id: UUID, event_ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the traces in which these events happened."""
    rows = OutboxEvent.objects.filter(organization_id=organization_id, id__in=event_ids)
    return dict(rows.values_list("id", "traceparent"))
