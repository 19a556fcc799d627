"""Deliveries, and the replays asked for."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Count, Min, Q, QuerySet

from apps.webhooks.errors import DeliveryNotFound
from apps.webhooks.models import WebhookDelivery, WebhookReplay
from apps.webhooks.states import DeliveryStatus

_REPLAYED_MAX = 10_000
_COUNTED_MAX = 10_000
_OWED = """
    SELECT delivery.id
      FROM webhooks_webhookdelivery AS delivery
      JOIN unnest(%(organizations)s::uuid[], %(events)s::uuid[]) AS event(organization_id, id)
        ON delivery.organization_id = event.organization_id AND delivery.event_id = event.id
     ORDER BY delivery.id FOR UPDATE OF delivery
"""


def has_pending_before(before: UUID) -> bool:
    """Say whether something of an event with an id below `before` is still to be sent."""
    return WebhookDelivery.objects.filter(
        status=DeliveryStatus.PENDING, event_id__lt=before
    ).exists()


@dataclass(frozen=True, kw_only=True)
class DeliveryFilter:
    """What a list of deliveries is narrowed to; None leaves that side open."""

    endpoint_id: UUID | None = None
    event_id: UUID | None = None
    status: str | None = None
    # What the key may not read.
    hidden_types: Collection[str] = ()


def list_deliveries(
    *, organization_id: UUID, wanted: DeliveryFilter | None = None
) -> QuerySet[WebhookDelivery]:
    """Return the organization's deliveries that fit."""
    wanted = wanted or DeliveryFilter()
    conditions = {
        "endpoint_id": wanted.endpoint_id,
        "event_id": wanted.event_id,
        "status": wanted.status,
    }
    given = {name: value for name, value in conditions.items() if value is not None}
    rows = WebhookDelivery.objects.filter(organization_id=organization_id, **given)
    return rows.exclude(event_type__in=wanted.hidden_types) if wanted.hidden_types else rows


def get_delivery(
    *, organization_id: UUID, delivery_id: UUID, hidden_types: Collection[str] = ()
) -> WebhookDelivery:
    """
    Return one delivery.

    :raises DeliveryNotFound: if the organization has none, or it is of a type that is hidden
    """
    wanted = DeliveryFilter(hidden_types=hidden_types)
    rows = list_deliveries(organization_id=organization_id, wanted=wanted)
    found = rows.filter(id=delivery_id).first()
    if found is None:
        raise DeliveryNotFound("No such webhook delivery.")
    return found


def lock_deliveries(
    *, organization_id: UUID, delivery_ids: Collection[UUID]
) -> list[WebhookDelivery]:
    """Return deliveries, locked in one order."""
    rows = WebhookDelivery.objects.filter(organization_id=organization_id, id__in=delivery_ids)
    return list(rows.order_by("id").select_for_update(no_key=True))


def lock_owed_for(*, organization_ids: list[UUID], event_ids: list[UUID]) -> None:
    """Lock every delivery of these events of these organizations, so that they can go."""
    with connection.cursor() as cursor:
        cursor.execute(_OWED, {"organizations": organization_ids, "events": event_ids})


def lock_failed_since(
    *, organization_id: UUID, endpoint_id: UUID, since: datetime
) -> list[WebhookDelivery]:
    """Return the endpoint's failed deliveries created since then, at most 10 000, locked."""
    rows = WebhookDelivery.objects.filter(
        organization_id=organization_id,
        endpoint_id=endpoint_id,
        status=DeliveryStatus.FAILED,
        created_at__gte=since,
    )
    return list(rows.order_by("id").select_for_update(no_key=True)[:_REPLAYED_MAX])


def get_replay(*, organization_id: UUID, replay_id: UUID) -> WebhookReplay:
    """Return one replay that is known to be there."""
    return WebhookReplay.objects.get(organization_id=organization_id, id=replay_id)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """How many deliveries there are, and when the oldest of them was made."""

    number: int
    oldest_made_at: datetime | None


def count_latest(*, organization_id: UUID, endpoint_id: UUID, status: DeliveryStatus) -> Counted:
    """Count those in this status among the endpoint's latest 10 000 deliveries."""
    latest = list_deliveries(
        organization_id=organization_id, wanted=DeliveryFilter(endpoint_id=endpoint_id)
    ).order_by("-id")[:_COUNTED_MAX]
    fits = Q(status=status)
    found = latest.aggregate(
        number=Count("id", filter=fits), oldest_made_at=Min("created_at", filter=fits)
    )
    return Counted(**found)
