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
from apps.webhooks.operations import LANE_KIND
from tests.chaos.house import PATIENCE_SECONDS, wait_sweeping
from tests.chaos.oracles import assert_delivered, is_settled
from tests.core.events_of_tests import end_delays
from tests.support import wait_until
from tests.webhooks.factories import TESTS, ThingChanged, create_endpoint, owe, publish, relay

COPIES = 5


@dataclass(frozen=True, kw_only=True)
class EndpointPoisoned(Event):
    """Of a type whose data the fan-out reads, with data that it cannot read."""

    name: ClassVar[str] = "tests.webhook_endpoint.poisoned"
    aggregate_type: ClassVar[str] = "thing"
    read_scope: ClassVar[str] = "webhooks:read"


@pytest.fixture
def endpoint(organization, far):
    """An endpoint for things, with nothing left to do about its own creation."""
    made, _ = create_endpoint(organization, far.url(), event_types=["thing.*"], max_in_flight=1)
    relay()
    return made


def has_position(organization):
    """Say whether every batch was numbered; each was leased once."""
    batches = OutboxBatch.objects.filter(organization_id=organization.id)
    return {(row.state, row.attempts) for row in batches} == {("done", 1)}


def is_consumed(organization):
    rows = EventWork.objects.filter(organization_id=organization.id)
    return {(row.state, row.attempts) for row in rows} == {("done", 1)}


def is_sent(organization):
    deliveries = WebhookDelivery.objects.filter(organization=organization)
    return {(row.status, row.attempts) for row in deliveries} == {("succeeded", 1)}


def publish_and_relay(organization, *aggregates):
    publish(organization, *aggregates)
    assert outbox.relay() == 1


def no_ops(worker, kind):
    """Return which messages a worker's log says to have found nothing due of this kind."""
    # The last line may be half written.
    texts = [text for text in worker.text.split("\n")[:-1] if text.startswith("{")]
    return [
        line["request_id"]
        for line in map(json.loads, texts)
        if (line["event"], line.get("kind")) == ("work_not_due", kind)
    ]


class TestFiveMessagesAtOnce:
    @pytest.mark.parametrize(
        ("task", "queue", "kind", "prepare", "is_done"),
        [
            ("core.relay", "events", outbox.RELAY_KIND, publish, has_position),
            pytest.param(
                "core.consume", "events", outbox.CONSUME_KIND, publish_and_relay, is_consumed,
                marks=pytest.mark.soak,
            ),
            ("webhooks.send_due", "webhooks", LANE_KIND, owe, is_sent),
        ],
        ids=["relay", "consume", "send"],
    )  # fmt: skip
    def test_have_one_effect_and_four_say_that_there_was_nothing_to_do(
        self, house, organization, endpoint, task, queue, kind, prepare, is_done
    ):
        prepare(organization, "thing_1")
        # Of hints that nobody counts none is left, and no beat sends more.
        house.ask_broker("FLUSHALL")
        app = house.celery()
        copies = [app.send_task(task, queue=queue).id for _ in range(COPIES)]

        # Each copy has a process, or a thread, of its own.
        start = house.sender if queue == "webhooks" else house.worker
        worker = start(queue, concurrency=COPIES)

        def idle():
            # A hint that one of the copies led to is none of them.
            return [id_ for id_ in no_ops(worker, kind) if id_ in copies]

        wait_until(
            lambda: is_done(organization) and len(idle()) >= COPIES - 1, seconds=PATIENCE_SECONDS
        )
        # Whoever still has one finishes it first.
        worker.terminate()
        assert worker.process.wait(PATIENCE_SECONDS) == 0

        assert len(idle()) == len(set(idle())) == COPIES - 1
        assert is_done(organization)

    @pytest.mark.soak
    def test_of_every_task_on_the_way_send_one_request(self, house, organization, far):
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
