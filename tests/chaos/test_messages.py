"""One message five times at once, and one row among a thousand that nobody can work."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest

from apps.core import clock, invariants, outbox, transactions
from apps.core.events import Event
from apps.core.models import EventWork, OutboxBatch
from apps.core.outbox import Published
from apps.webhooks.models import WebhookAttempt, WebhookDelivery
from tests.chaos.house import PATIENCE_SECONDS, wait_sweeping
from tests.chaos.oracles import assert_delivered, is_settled
from tests.core.events_of_tests import end_delays
from tests.support import wait_until
from tests.webhooks.factories import TESTS, ThingChanged, create_endpoint, publish

COPIES = 5


@dataclass(frozen=True, kw_only=True)
class EndpointPoisoned(Event):
    """Of a type whose data the fan-out reads, with data that it cannot read."""

    name: ClassVar[str] = "tests.webhook_endpoint.poisoned"
    aggregate_type: ClassVar[str] = "thing"
    read_scope: ClassVar[str] = "webhooks:read"


class TestFiveMessagesAtOnce:
    def test_have_one_effect(self, house, organization, far):
        create_endpoint(organization, far.url(), event_types=["thing.*"], max_in_flight=1)
        publish(organization, "thing_1")
        house.ask_broker("FLUSHALL")
        app = house.celery()
        for task, queue in (
            ("core.relay", "events"),
            ("core.consume", "events"),
            ("webhooks.send_due", "webhooks"),
        ):
            for _ in range(COPIES):
                app.send_task(task, queue=queue)

        # Each copy has a process, or a thread, of its own.
        house.worker("events", concurrency=COPIES)
        house.sender(concurrency=COPIES)
        wait_sweeping(partial(is_settled, organization))

        assert_delivered(organization, far)
        assert len(far.ids()) == WebhookAttempt.objects.count() == 1
        batch = OutboxBatch.objects.filter(organization_id=organization.id).latest("inserted_at")
        [row] = EventWork.objects.filter(batch_id=batch.id)
        assert (batch.attempts, row.attempts) == (1, 1)


@transactions.outermost
def publish_with_poison(organization, count, *, poison):
    """Commit one batch of which one event cannot be fanned out."""
    events = [
        ThingChanged(
            organization_id=organization.id,
            aggregate_id=f"thing_{number}",
            sequence=1,
            occurred_at=clock.now(),
        )
        for number in range(count)
    ]
    taken = [Published.of(event, str(TESTS), "", "") for event in events]
    bad = EndpointPoisoned(
        organization_id=organization.id,
        aggregate_id="poison",
        sequence=1,
        occurred_at=clock.now(),
    )
    taken[poison] = Published.of(bad, str(TESTS), "", "")._replace(data=json.dumps(["poison"]))
    outbox.publish_taken(taken)


@pytest.mark.soak
@pytest.mark.timeout(280)
class TestPoison:
    def test_of_a_thousand_is_quarantined_alone(self, house, organization, far):
        create_endpoint(organization, far.url(), event_types=["thing.*"])
        publish_with_poison(organization, 1000, poison=437)
        house.beat()
        house.worker("events", "default", concurrency=2)
        house.sender()

        def is_set_aside():
            # Its twelve tries would take hours.
            end_delays(EventWork)
            return EventWork.objects.filter(state="quarantined").exists()

        wait_until(is_set_aside, seconds=2 * PATIENCE_SECONDS)
        wait_until(partial(is_settled, organization), seconds=PATIENCE_SECONDS)

        [poison] = EventWork.objects.filter(state="quarantined")
        assert (poison.ordinal, poison.last_error_code) == (437, "consumer_failed")
        assert WebhookDelivery.objects.filter(status="succeeded").count() == 999
        assert WebhookDelivery.objects.count() == 999
        ids = far.ids()
        assert (len(ids), len(set(ids))) == (999, 999)
        assert not EventWork.objects.exclude(id=poison.id).exclude(state="done").exists()
        assert invariants.breaches() == []
