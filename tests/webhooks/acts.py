"""What an organization does to its endpoint, and what happens at the same time."""

from __future__ import annotations

from apps.core import clock, outbox
from apps.core.ids import new_id
from apps.core.models import OutboxEvent
from apps.webhooks import operations
from apps.webhooks.rules.retries import Attempt
from tests.webhooks.factories import TESTS
from tests.webhooks.waiting import held_up


class Acts:
    """What an organization does to its endpoint."""

    def __init__(self, endpoint):
        self.key = {"organization_id": endpoint.organization_id, "endpoint_id": endpoint.id}
        self.by = {"actor": TESTS}

    def update(self, **changes):
        operations.update_endpoint(**self.key, **self.by, changes=changes, now=clock.now())

    def delete(self):
        operations.delete_endpoint(**self.key, **self.by, now=clock.now())

    def disable(self):
        operations.disable_endpoint(
            **self.key, **self.by, reason="", idempotency_key=str(new_id()), now=clock.now()
        )

    def enable(self, paused="resume", since=None):
        operations.enable_endpoint(
            **self.key,
            **self.by,
            paused=paused,
            since=since,
            idempotency_key=str(new_id()),
            now=clock.now(),
        )

    def rotate(self):
        """Replace the secret at once; return the new one."""
        _, secret = operations.rotate_secret(
            **self.key,
            **self.by,
            overlap_seconds=0,
            idempotency_key=str(new_id()),
            now=clock.now(),
        )
        return secret


def fan_out_held_up():
    """Have what was published last fanned out, and held up once it knows the endpoints."""
    while outbox.relay():
        pass
    event = OutboxEvent.objects.filter(type="thing.changed").latest("id")
    # It makes the rendered body first, and waits to see whether this one stays.
    return held_up(
        outbox.consume,
        "INSERT INTO webhooks_webhookbody (id, organization_id, event_id, api_version, body)"
        " VALUES (%s, %s, %s, '2026-11-01', '')",
        [new_id(), event.organization_id, event.id],
    )


def attempt(owed, outcome, number=0):
    return Attempt(
        delivery_id=owed.owed[number].delivery_id,
        number=owed.owed[number].number,
        started_at=clock.now(),
        duration_ms=1,
        outcome=outcome,
    )
