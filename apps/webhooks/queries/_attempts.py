"""Attempts, and what they say of an endpoint."""

from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import QuerySet

from apps.webhooks.models import WebhookAttempt
from apps.webhooks.rules import retries

# So many are read at once. They are recorded in nearly the order in which they began: where none of
# so many is of a time, none before them is.
_LOOKED_AT: Final = 500
_NO_FAILURES: Final = {retries.Outcome.SUCCEEDED, *retries.OURS}


def list_attempts(*, organization_id: UUID, delivery_id: UUID) -> QuerySet[WebhookAttempt]:
    """Return every attempt of one delivery."""
    return WebhookAttempt.objects.filter(organization_id=organization_id, delivery_id=delivery_id)


def count_failed_events(
    *, organization_id: UUID, endpoint_id: UUID, since: datetime, at_most: int
) -> int:
    """
    Count the distinct events that the endpoint did not take since then; not our own faults.

    No further than to `at_most`: what failed for days may be millions of attempts.
    """
    found: set[UUID] = set()
    attempts = WebhookAttempt.objects.filter(
        organization_id=organization_id, endpoint_id=endpoint_id
    ).order_by("-id")
    rows = attempts
    while len(found) < at_most:
        page = list(rows.values_list("id", "delivery_id", "started_at", "outcome")[:_LOOKED_AT])
        since_then = [each for each in page if each[2] >= since]
        if not since_then:
            break
        found.update(
            delivery_id for _, delivery_id, _, outcome in since_then if outcome not in _NO_FAILURES
        )
        rows = attempts.filter(id__lt=page[-1][0])
    return min(len(found), at_most)


def list_recent_durations_ms(*, organization_id: UUID, endpoint_id: UUID) -> list[int]:
    """Return how long the endpoint's last 20 attempts took."""
    return list(
        WebhookAttempt.objects.filter(organization_id=organization_id, endpoint_id=endpoint_id)
        .exclude(outcome__in=retries.OURS)
        .order_by("-id")
        .values_list("duration_ms", flat=True)[: retries.SLOW_SAMPLE]
    )
