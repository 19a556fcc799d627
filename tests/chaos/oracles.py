"""What must hold after every fault, whichever it was."""

from collections import Counter

from apps.core import clock, invariants
from apps.core.ids import encode_id
from apps.core.models import EventWork, OutboxBatch, OutboxEvent
from apps.core.work import OPEN, SET_ASIDE, kinds
from apps.webhooks.models import WebhookBody, WebhookDelivery, WebhookEndpoint, WebhookLane
from apps.webhooks.rules import subscriptions


def is_settled(organization) -> bool:
    """Say whether nothing of this organization waits to be relayed, fanned out or sent."""
    mine = {"organization_id": organization.id}
    return not (
        OutboxBatch.objects.filter(**mine, public=True, position=None).exists()
        or OutboxBatch.objects.filter(**mine, state__in=OPEN).exists()
        or EventWork.objects.filter(**mine, state__in=OPEN).exists()
        or WebhookDelivery.objects.filter(**mine, status="pending").exists()
        or WebhookLane.objects.filter(**mine, state__in=OPEN).exists()
    )


def end_leases(*models) -> None:
    """Let the leases of workers that were killed end now, and retries come due."""
    for model in models or {kind.model for kind in kinds()}:
        model.objects.filter(state__in=OPEN).update(next_attempt_at=clock.now())


def assert_delivered(organization, far, *, path: str = "ok", ids=None) -> None:
    """
    Every public event reached the receiver at least once, with one id and one body; none is lost.

    And all that was done for it was done once: a place in the feed, a delivery for each endpoint.
    """
    events = OutboxEvent.objects.filter(organization_id=organization.id, public=True)
    endpoint = WebhookEndpoint.objects.get(organization=organization, url=far.url(path))
    owed = {
        encode_id("evt", event.id): event.id
        for event in events
        if event.recorded_at >= endpoint.created_at
        and subscriptions.is_subscribed(endpoint.event_types, event.type)
    }
    assert ids is None or set(owed) == set(ids)
    received = far.received(path)
    assert {one.id for one in received} == set(owed)
    stored = {
        body.event_id: bytes(body.body)
        for body in WebhookBody.objects.filter(organization=organization)
    }
    assert all(one.body == stored[owed[one.id]] for one in received)
    made = WebhookDelivery.objects.filter(organization=organization, endpoint=endpoint)
    assert Counter(made.values_list("event_id", flat=True)) == Counter(owed.values())
    assert set(made.values_list("status", flat=True)) == {"succeeded"}
    assert_sound(organization)


def assert_sound(organization) -> None:
    """Nothing is set aside, the feed has no hole, and every invariant holds."""
    positions = OutboxBatch.objects.filter(organization_id=organization.id, public=True)
    numbered = sorted(positions.values_list("position", flat=True))
    assert numbered == list(range(1, len(numbered) + 1))
    for model in {kind.model for kind in kinds()}:
        assert not model.objects.filter(state__in=SET_ASIDE).exists(), model
    assert invariants.breaches() == []
