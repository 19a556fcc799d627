"""Attempts, and what they say of an endpoint."""

from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from apps.webhooks.models import WebhookAttempt
from apps.webhooks.rules import retries


def list_attempts(*, organization_id: UUID, delivery_id: UUID) -> QuerySet[WebhookAttempt]:
    """Return every attempt of one delivery."""
    return WebhookAttempt.objects.filter(organization_id=organization_id, delivery_id=delivery_id)


def count_failed_events(*, organization_id: UUID, endpoint_id: UUID, since: datetime) -> int:
    """Count the distinct events that the endpoint did not take since then; not our own faults."""
    return (
        WebhookAttempt.objects.filter(
            organization_id=organization_id, endpoint_id=endpoint_id, started_at__gte=since
        )
        .exclude(outcome__in=[retries.Outcome.SUCCEEDED, *retries.OURS])
        .values("delivery_id")
        .distinct()
        .count()
    )


def list_recent_durations_ms(*, organization_id: UUID, endpoint_id: UUID) -> list[int]:
    """Return how long the endpoint's last 20 attempts took."""
    return list(
        WebhookAttempt.objects.filter(organization_id=organization_id, endpoint_id=endpoint_id)
        .exclude(outcome__in=retries.OURS)
        .order_by("-id")
        .values_list("duration_ms", flat=True)[: retries.SLOW_SAMPLE]
    )
