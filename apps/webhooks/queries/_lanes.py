"""Lanes: those that are due, and those that are locked for what they are owed."""

from collections.abc import Collection
from datetime import datetime
from functools import reduce
from operator import or_
from uuid import UUID

from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from apps.core import work
from apps.webhooks.models import WebhookLane


def lock_lanes(*, organization_id: UUID, endpoint_ids: Collection[UUID]) -> list[WebhookLane]:
    """Return the endpoints' lanes, locked in one order."""
    rows = WebhookLane.objects.filter(
        organization_id=organization_id, endpoint_id__in=endpoint_ids
    ).order_by("id")
    return list(rows.select_for_update(no_key=True))


def lock_lanes_of(
    *, organization_id: UUID, places: Collection[tuple[UUID, int]]
) -> list[WebhookLane]:
    """
    Return the lanes at these places, an endpoint and a number each, locked in the same order.

    For what owes a few of them something: who sends on the others waits for nobody.
    """
    of_them = reduce(or_, (Q(endpoint_id=id_, lane=lane) for id_, lane in places))
    rows = WebhookLane.objects.filter(of_them, organization_id=organization_id).order_by("id")
    return list(rows.select_for_update(no_key=True))


def get_database_time() -> datetime:
    """Return the time by the clock that leases, due times and circuits are on."""
    time: datetime
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        [(time,)] = cursor.fetchall()
    return time


def list_due_lane_ids(*, is_slow: bool, limit: int) -> list[UUID]:
    """Return lanes that are due and belong to these workers, oldest due first."""
    return list(
        WebhookLane.objects.filter(state__in=work.OPEN, next_attempt_at__lte=Now(), is_slow=is_slow)
        .order_by("next_attempt_at")
        .values_list("id", flat=True)[:limit]
    )


def is_among_slow(*, organization_id: UUID, endpoint_id: UUID) -> bool:
    """Say whether the workers of the slow endpoints send to this one."""
    return WebhookLane.objects.filter(
        organization_id=organization_id, endpoint_id=endpoint_id, is_slow=True
    ).exists()
