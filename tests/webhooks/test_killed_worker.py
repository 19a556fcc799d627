"""Real Celery workers, killed with SIGKILL while a receiver has their request."""

from __future__ import annotations

import time

import pytest

from apps.core import clock, outbox, transactions, work
from apps.core.models import EventWork
from apps.webhooks import tasks
from apps.webhooks.models import (
    WebhookAttempt,
    WebhookDelivery,
    WebhookFanout,
    WebhookLane,
)
from tests.support import empty_broker, kill_hard, running_worker, wait_until
from tests.webhooks import receiver
from tests.webhooks.conftest import broken_invariants
from tests.webhooks.factories import create_endpoint, deliveries, owe, publish, relay


@pytest.fixture(autouse=True)
def _empty_broker():
    empty_broker()
    yield
    empty_broker()


def worker(*queues):
    return running_worker(*queues, pool="threads", concurrency=2)


def wait_sweeping(condition):
    """Wait as `wait_until` does, with the sweep that beat would start each second."""
    swept_at = float("-inf")

    def is_so():
        nonlocal swept_at
        if time.monotonic() - swept_at > 1:
            work.sweep()
            swept_at = time.monotonic()
        return condition()

    wait_until(is_so, seconds=60)


def all_succeeded(organization):
    return {each.status for each in deliveries(organization)} == {"succeeded"}


class TestSendingWorker:
    def test_delivers_from_commit_to_receiver(self, organization, far):
        create_endpoint(organization, far.url, event_types=["thing.*"])
        with worker("events", "webhooks"):
            publish(organization, *(f"thing_{number}" for number in range(5)))

            wait_sweeping(lambda: len(far.requests) == 5)
            wait_sweeping(lambda: all_succeeded(organization))

        assert len(set(far.ids())) == 5
        assert broken_invariants() == []

    def test_killed_while_posting_loses_nothing(self, organization, far):
        far.answers = [receiver.ok(), receiver.hang, receiver.ok()]
        create_endpoint(organization, far.url, event_types=["thing.*"], max_in_flight=1)
        owe(organization, "thing_1", "thing_2", "thing_3")

        with worker("webhooks") as first:
            work.sweep()
            far.wait_for(2, timeout=60)
            kill_hard(first)

        # One was taken by the receiver, and nobody lived to write that down: unless it took more
        # than a second, after which it is recorded by itself.
        recorded = WebhookAttempt.objects.count()
        assert recorded <= 1
        assert [each.status for each in deliveries(organization)].count("pending") == 3 - recorded
        lane = WebhookLane.objects.get()
        assert lane.state == "leased"
        assert lane.lease_until > clock.now()
        assert tasks.claim_lane(is_slow=False) is None

        # The lease runs out; the sweep needs no memory of the message that died with the worker.
        WebhookLane.objects.update(next_attempt_at=clock.now(), lease_until=clock.now())
        empty_broker()
        with worker("webhooks"):
            wait_sweeping(lambda: WebhookLane.objects.get().state == "done")

        assert all_succeeded(organization)
        ids = far.ids()
        assert len(ids) == 5 - recorded
        assert ids[2 : 4 - recorded] == ids[recorded:2]
        assert len(set(ids)) == 3
        assert far.requests[1].body == far.requests[3 - recorded].body
        assert WebhookLane.objects.get().lapses == 0
        assert broken_invariants() == []

    def test_finds_what_is_due_when_every_message_was_lost(self, organization, far):
        create_endpoint(organization, far.url, event_types=["thing.*"])
        owe(organization, *(f"thing_{number}" for number in range(10)))
        empty_broker()

        with worker("webhooks"):
            wait_sweeping(lambda: all_succeeded(organization))

        assert len(far.requests) == 10


class TestFanOutWorker:
    def test_killed_in_a_large_batch_goes_on_where_it_was(self, organization, far):
        for _ in range(3):
            create_endpoint(organization, far.url, event_types=["thing.*"])
        relay()
        publish(organization, *(f"thing_{number}" for number in range(4_000)))
        while outbox.relay():
            pass
        row = EventWork.objects.get(consumer="webhooks", state="pending")

        with worker("events") as first:
            work.sweep()
            wait_until(lambda: WebhookFanout.objects.count() >= 1_000, seconds=60)
            kill_hard(first)

        # Whole portions, and the note of them with them.
        with transactions.snapshot():
            row.refresh_from_db()
            counts = (WebhookFanout.objects.count(), WebhookDelivery.objects.count())
        assert 1_000 <= row.next_ordinal < 4_000
        assert counts == (row.next_ordinal, 3 * row.next_ordinal)
        EventWork.objects.filter(id=row.id).update(
            next_attempt_at=clock.now(), lease_until=clock.now()
        )
        empty_broker()
        with worker("events"):
            wait_sweeping(lambda: EventWork.objects.get(id=row.id).state == "done")

        assert WebhookFanout.objects.count() == 4_000
        assert WebhookDelivery.objects.count() == 12_000
        assert broken_invariants() == []
