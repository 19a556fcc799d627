"""Each invariant of webhooks is broken by SQL, round every guard, and then named alone."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import IntegrityError

from apps.core import clock, invariants, outbox
from apps.core.models import OutboxEvent
from apps.webhooks import operations
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookLane
from tests.support import past_the_guards
from tests.webhooks import receiver
from tests.webhooks.factories import TESTS, create_endpoint, deliver, owe, publish, relay
from tests.webhooks.test_inbox import OF_WHAT_IS_PARKED, OF_WHAT_WAS_APPLIED
from tests.webhooks.waiting import held_up

# Where two things were delivered.
OF_WHAT_WAS_DELIVERED = {
    "webhook_batch_is_fanned_out_within_a_minute": """
        UPDATE core_outbox_batch SET inserted_at = now() - interval '61 s';
        UPDATE core_event_work SET state = 'quarantined'
    """,
    "webhook_event_for_an_endpoint_is_owed_to_it": """
        DELETE FROM webhooks_webhookattempt;
        DELETE FROM webhooks_webhookdelivery;
        DELETE FROM webhooks_webhookfanout
    """,
    "webhook_fanout_count_is_its_deliveries": """
        UPDATE webhooks_webhookfanout SET delivery_count = 2
    """,
    "webhook_delivery_has_its_fanout": "DELETE FROM webhooks_webhookfanout",
    "webhook_delivery_has_the_bytes_it_sends": "DELETE FROM webhooks_webhookbody",
    "webhook_delivery_succeeded_by_a_2xx_attempt": """
        UPDATE webhooks_webhookattempt SET status_code = 500
    """,
}
# Where ten things are still owed to an endpoint that says 500.
OF_WHAT_WAITS = {
    "webhook_endpoint_is_off_past_the_disable_rule": """
        UPDATE webhooks_webhookendpoint SET first_failure_at = now() - interval '121 h 30 min'
    """,
    "webhook_lane_set_aside_has_nothing_to_send": """
        UPDATE webhooks_webhooklane SET state = 'quarantined'
    """,
    "webhook_delivery_due_has_a_lane_that_wakes": "UPDATE webhooks_webhooklane SET state = 'done'",
    "webhook_lane_sends_what_it_owes": """
        UPDATE webhooks_webhooklane SET last_error_code = 'turn_failed';
        UPDATE webhooks_webhookdelivery SET next_attempt_at = now() - interval '121 s'
    """,
    "webhook_delivery_waits_for_its_receiver_alone": """
        UPDATE webhooks_webhookdelivery SET last_outcome = 'internal_error'
    """,
    "webhook_delivery_is_set_aside_only_while_its_endpoint_is_off": """
        UPDATE webhooks_webhookdelivery SET status = 'paused'
    """,
    "webhook_delivery_is_on_the_lane_of_its_aggregate": """
        UPDATE webhooks_webhookdelivery SET lane_key = lane_key + 1
    """,
    "webhook_endpoint_that_changes_has_its_work": """
        UPDATE webhooks_webhookendpoint SET is_changing = TRUE
    """,
    "webhook_delivery_waits_only_for_an_endpoint_that_is_on": """
        UPDATE webhooks_webhookendpoint SET status = 'disabled', disabled_reason = 'requested'
    """,
    "webhooks_webhookchange_is_not_overdue": """
        INSERT INTO webhooks_webhookchange
               (id, organization_id, endpoint_id, state, attempts, lapses, next_attempt_at,
                last_error_code, traceparent, after_aggregate)
        SELECT gen_random_uuid(), organization_id, id, 'pending', 0, 0, now() - interval '121 s',
               '', '', ''
          FROM webhooks_webhookendpoint
    """,
    "webhooks_webhooklane_is_not_overdue": """
        UPDATE webhooks_webhooklane SET next_attempt_at = now() - interval '121 s'
    """,
}


def broken():
    """The names of the invariants of all apps that do not hold."""
    return [breach.name for breach in invariants.breaches()]


def age_batches(*, seconds=61):
    past_the_guards(
        f"UPDATE core_outbox_batch SET inserted_at = inserted_at - interval '{seconds} s'"
    )


def age_endpoints():
    """Let the endpoints be older than an event that is not about to be fanned out without them."""
    past_the_guards("UPDATE webhooks_webhookendpoint SET created_at = created_at - interval '61 s'")


@pytest.fixture
def delivered(organization, far):
    create_endpoint(organization, far.url, event_types=["thing.*"])
    age_endpoints()
    owe(organization, "thing_1", "thing_2")
    deliver()


@pytest.fixture
def waiting(organization, far):
    far.answers = [receiver.answer("500 Oh")]
    create_endpoint(organization, far.url, event_types=["thing.*"])
    owe(organization, *(f"thing_{number}" for number in range(10)))
    deliver()


class TestHealthy:
    def test_deliveries_break_none(self, delivered):
        assert WebhookDelivery.objects.filter(status="succeeded").count() == 2
        assert broken() == []

    def test_failures_break_none(self, waiting):
        assert WebhookDelivery.objects.filter(status="pending", attempts=1).count() == 10
        assert broken() == []

    def test_life_of_an_endpoint_breaks_none(self, organization, far):
        """Owed, failed, switched off, kept, resumed, sent, respread, taken away."""
        endpoint, _ = create_endpoint(organization, far.url, event_types=["thing.*"])
        whom = {"organization_id": organization.id, "endpoint_id": endpoint.id, "actor": TESTS}
        far.answers = [receiver.answer("410 Gone"), receiver.ok()]
        owe(organization, "thing_1", "thing_2", "thing_3")
        deliver()
        assert broken() == []
        owe(organization, "thing_4")
        age_batches()
        assert broken() == []

        operations.enable_endpoint(
            **whom, paused="resume", since=None, idempotency_key="on", now=clock.now()
        )
        relay()
        assert broken() == []
        deliver()
        operations.update_endpoint(**whom, changes={"max_in_flight": 1}, now=clock.now())
        owe(organization, "thing_5")
        deliver()
        assert WebhookDelivery.objects.filter(status="succeeded").count() == 5
        assert broken() == []

        owe(organization, "thing_6")
        operations.delete_endpoint(**whom, now=clock.now())
        deliver()
        age_batches()
        assert WebhookDelivery.objects.filter(status="canceled").count() == 1
        assert broken() == []


class TestBroken:
    @pytest.mark.parametrize("name", OF_WHAT_WAS_DELIVERED)
    def test_after_delivery_is_named_alone(self, delivered, name):
        past_the_guards(OF_WHAT_WAS_DELIVERED[name])

        assert broken() == [name]

    @pytest.mark.parametrize("name", OF_WHAT_WAITS)
    def test_before_delivery_is_named_alone(self, waiting, name):
        past_the_guards(OF_WHAT_WAITS[name])

        assert broken() == [name]

    def test_can_be_each_that_there_is(self):
        every = set(invariants.collect(only_apps=frozenset({"webhooks"})))

        of_the_inbox = OF_WHAT_WAS_APPLIED.keys() | OF_WHAT_IS_PARKED.keys()
        assert every == OF_WHAT_WAS_DELIVERED.keys() | OF_WHAT_WAITS.keys() | of_the_inbox


class TestFanOut:
    NAME = "webhook_batch_is_fanned_out_within_a_minute"

    def test_may_take_a_minute(self, organization, far):
        create_endpoint(organization, far.url)
        publish(organization, "thing_1")
        outbox.relay()

        age_batches(seconds=55)
        assert broken() == []
        age_batches(seconds=6)
        assert broken() == [self.NAME]
        relay()
        assert broken() == []

    def test_that_no_row_of_work_asks_for_is_a_loss(self, delivered):
        past_the_guards(
            "DELETE FROM core_event_work",
            "UPDATE webhooks_webhookendpoint SET created_at = created_at - interval '1 hour'",
            "UPDATE core_outbox_batch SET inserted_at = now() - interval '61 s'",
        )

        assert broken() == [self.NAME]

    def test_of_what_was_before_every_endpoint_is_none(self, organization, far):
        owe(organization, "thing_1")
        past_the_guards("DELETE FROM core_event_work")
        age_batches()
        create_endpoint(organization, far.url)
        relay()

        assert broken() == []


class TestOwed:
    def test_is_what_the_endpoint_asked_for_when_it_came(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url, event_types=["customer.*"])
        owe(organization, "thing_1")

        operations.update_endpoint(
            organization_id=organization.id,
            endpoint_id=endpoint.id,
            changes={"event_types": ["*"]},
            actor=TESTS,
            now=clock.now(),
        )
        relay()

        assert WebhookDelivery.objects.count() == 0
        assert broken() == []

    def test_is_not_what_came_before_the_endpoint_was_committed(self, organization, far):
        """Its row was made before the event, and COMMIT came after the event was fanned out."""
        make = partial(create_endpoint, organization, far.url, event_types=["thing.*"])

        with held_up(make, "LOCK TABLE webhooks_webhooksecret IN SHARE MODE", []):
            owe(organization, "thing_1")
        relay()

        made = WebhookEndpoint.objects.get()
        assert made.created_at < OutboxEvent.objects.get(type="thing.changed").recorded_at
        assert WebhookDelivery.objects.count() == 0
        assert broken() == []

    @pytest.mark.parametrize("asked", ["*", "thing.*", "thing.changed"])
    def test_is_looked_for_however_it_was_asked_for(self, organization, far, asked):
        create_endpoint(organization, far.url, event_types=[asked])
        age_endpoints()
        owe(organization, "thing_1")
        past_the_guards(
            "DELETE FROM webhooks_webhookdelivery", "DELETE FROM webhooks_webhookfanout"
        )

        assert broken() == ["webhook_event_for_an_endpoint_is_owed_to_it"]


class TestLanes:
    @pytest.mark.parametrize("state", ["quarantined", "failed", "paused"])
    def test_set_aside_are_named_while_something_is_on_them(self, waiting, state):
        past_the_guards(f"UPDATE webhooks_webhooklane SET state = '{state}'")
        assert broken() == ["webhook_lane_set_aside_has_nothing_to_send"]

        past_the_guards(
            "UPDATE webhooks_webhookdelivery SET status = 'canceled', closed_at = now()"
        )
        assert broken() == []

    def test_are_one_row_each_so_that_none_has_two_holders(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)

        with pytest.raises(IntegrityError, match="webhook_endpoint_has_each_lane_once"):
            WebhookLane.objects.create(organization=organization, endpoint=endpoint, lane=0)
