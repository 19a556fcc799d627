"""Faults of ours while sending: each costs what it is about, and nothing else."""

from __future__ import annotations

import contextlib
import json
import socket
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection

from apps.core import clock
from apps.core.models import OutboxEvent
from apps.webhooks import queries, tasks
from apps.webhooks.models import (
    WebhookAttempt,
    WebhookBody,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookLane,
    WebhookSecret,
)
from apps.webhooks.rules import retries
from apps.webhooks.rules.retries import Health, Outcome
from tests.webhooks import receiver
from tests.webhooks.conftest import broken_invariants
from tests.webhooks.factories import (
    create_endpoint,
    deliver,
    deliveries,
    make_due,
    owe,
    relay,
)
from tests.webhooks.receiver import Receiver


def lose_body(delivery):
    """Take a rendered body away, past the guard, as damage would."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        WebhookBody.objects.filter(event_id=delivery.event_id).delete()
        cursor.execute("SET session_replication_role = DEFAULT")


@contextlib.contextmanager
def refusing_attempts(head):
    """Have the database refuse attempts with this answer."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse_attempt() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'refused'; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER refuse_attempt BEFORE INSERT ON webhooks_webhookattempt"
            f" FOR EACH ROW WHEN (NEW.answer_head = '{head}') EXECUTE FUNCTION refuse_attempt()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse_attempt CASCADE")


def work_one_lane():
    return tasks.work_lane(tasks.claim_lane(is_slow=False), policy=queries.get_policy())


class TestMissingBody:
    def test_is_the_outcome_of_its_delivery_and_the_others_are_sent(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{number}" for number in range(5)))
        lost = deliveries(organization)[2]
        lose_body(lost)

        assert deliver() == 5

        assert len(far.requests) == len(set(far.ids())) == 4
        lost.refresh_from_db()
        assert (lost.status, lost.attempts, lost.last_outcome) == ("pending", 1, "no_body")
        assert clock.now() < lost.next_attempt_at <= clock.now() + timedelta(seconds=6)
        assert len(deliveries(organization, status="succeeded")) == 4
        attempt = WebhookAttempt.objects.get(delivery=lost)
        assert (attempt.outcome, attempt.status_code, attempt.duration_ms) == ("no_body", None, 0)
        lane = WebhookLane.objects.get()
        assert (lane.state, lane.lapses) == ("pending", 0)
        # The receiver has done nothing wrong.
        endpoint.refresh_from_db()
        assert endpoint.first_failure_at is None
        assert "webhook_delivery_waits_for_its_receiver_alone" in broken_invariants()

    def test_ends_after_ten_attempts_and_is_told(self, organization, far):
        broken, _ = create_endpoint(organization, far.url, event_types=["thing.*"])
        with Receiver() as other:
            create_endpoint(organization, other.url, event_types=["webhook_delivery.*"])
            owe(organization, "thing_1")
            [lost] = deliveries(organization)
            lose_body(lost)
            for _ in range(12):
                deliver()
                make_due(organization)
            relay()
            deliver()

            lost.refresh_from_db()
            assert (lost.status, lost.attempts) == ("failed", 10)
            assert far.requests == []
            assert json.loads(other.requests[0].body)["type"] == "webhook_delivery.exhausted"
        broken.refresh_from_db()
        assert (broken.status, broken.first_failure_at) == ("enabled", None)

    def test_of_an_ordered_aggregate_holds_only_that_one_back(self, organization, far):
        create_endpoint(organization, far.url, ordering="aggregate", max_in_flight=1)
        owe(organization, "thing_1", "thing_2", sequence=1)
        owe(organization, "thing_1", "thing_2", sequence=2)
        lose_body(deliveries(organization, aggregate_id="thing_1")[0])

        deliver()

        about = [json.loads(each.body)["aggregate"]["id"] for each in far.requests]
        assert about == ["thing_2", "thing_2"]


class TestFaultOfOneAttempt:
    def test_leaves_the_others_sent_once_and_recorded(self, organization, far, monkeypatch):
        far.answers = [receiver.ok(headers="Connection: close\r\n")]
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{number}" for number in range(5)))
        calls = []
        connect = socket.create_connection

        def fail_the_third(*args, **kwargs):
            calls.append(args)
            if len(calls) == 3:
                raise RuntimeError("made up")
            return connect(*args, **kwargs)

        monkeypatch.setattr(socket, "create_connection", fail_the_third)

        assert deliver() == 5

        assert [each.outcome for each in WebhookAttempt.objects.order_by("id")] == [
            "succeeded",
            "succeeded",
            "internal_error",
            "succeeded",
            "succeeded",
        ]
        [held] = deliveries(organization, status="pending")
        assert (held.attempts, held.last_outcome) == (1, "internal_error")
        make_due(organization)
        assert deliver() == 1
        assert len(far.requests) == len(set(far.ids())) == 5
        assert broken_invariants() == []


class TestUnreadableSecret:
    @pytest.fixture
    def endpoint(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1", "thing_2")
        return endpoint

    def test_puts_the_lane_off_and_never_aside(self, organization, far, endpoint):
        secret = WebhookSecret.objects.get(endpoint=endpoint)
        *sealed, last = bytes(secret.sealed)
        WebhookSecret.objects.update(sealed=bytes([*sealed, last ^ 1]))

        for _ in range(7):
            assert work_one_lane() == 0
            lane = WebhookLane.objects.get()
            assert (lane.state, lane.lapses, lane.last_error_code) == ("pending", 0, "turn_failed")
            wait = lane.next_attempt_at - clock.now()
            assert timedelta(seconds=50) < wait <= timedelta(seconds=60)
            make_due(organization)
        assert {each.attempts for each in deliveries(organization)} == {0}
        assert far.requests == []

        # Once it opens again, what waited goes out by itself, with its whole budget.
        WebhookSecret.objects.update(sealed=secret.sealed)
        assert deliver() == 2
        assert WebhookLane.objects.get().last_error_code == ""
        assert {each.status for each in deliveries(organization)} == {"succeeded"}
        assert broken_invariants() == []

    def test_costs_other_endpoints_nothing(self, organization, far, endpoint):
        WebhookSecret.objects.update(sealed=b"gone")
        with Receiver() as healthy:
            create_endpoint(organization, healthy.url, event_types=["thing.*"])
            owe(organization, "thing_3")

            assert deliver() == 1

            assert len(healthy.requests) == 1
        assert far.requests == []

    def test_is_not_passed_over_where_none_is_left(self, organization, far, endpoint):
        WebhookSecret.objects.update(expires_at=clock.now() - timedelta(seconds=1))

        assert work_one_lane() == 0

        # Unsigned, nothing is sent.
        assert far.requests == []
        assert WebhookLane.objects.get().last_error_code == "turn_failed"

    def test_shows_once_something_is_late(self, organization, endpoint):
        WebhookSecret.objects.update(sealed=b"gone")
        work_one_lane()
        assert broken_invariants() == []

        late = clock.now() - timedelta(minutes=3)
        WebhookDelivery.objects.update(next_attempt_at=late)

        assert broken_invariants() == ["webhook_lane_sends_what_it_owes"]


class TestFaultOfTheRecord:
    def test_of_one_answer_keeps_what_the_others_brought(self, organization, far):
        far.answers = [receiver.ok(), receiver.ok(b"poison"), receiver.ok()]
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{number}" for number in range(4)))

        with refusing_attempts("poison"):
            assert deliver() == 4

        assert len(far.requests) == len(set(far.ids())) == 4
        assert {each.status for each in deliveries(organization)} == {"succeeded"}
        heads = list(WebhookAttempt.objects.order_by("id").values_list("answer_head", flat=True))
        assert heads == ["thanks", "", "thanks", "thanks"]
        assert WebhookLane.objects.get().lapses == 0

    def test_leads_to_what_any_attempt_leads_to(self, organization, far):
        far.answers = [receiver.answer("410 Gone", b"poison")]
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1", "thing_2")

        with refusing_attempts("poison"):
            assert deliver() == 1

        endpoint.refresh_from_db()
        assert (endpoint.status, endpoint.disabled_reason) == ("disabled", "gone")
        assert {each.status for each in deliveries(organization)} == {"paused"}
        assert len(far.requests) == 1

    def test_that_goes_on_for_days_switches_the_endpoint_off(self, organization, far):
        far.answers = [receiver.answer("500 Oh", b"poison")]
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{number}" for number in range(10)))

        with refusing_attempts("poison"):
            assert deliver() == 10
            long_ago = clock.now() - timedelta(hours=121)
            WebhookEndpoint.objects.update(first_failure_at=long_ago)
            make_due(organization)
            deliver()

        endpoint.refresh_from_db()
        assert (endpoint.status, endpoint.disabled_reason) == ("disabled", "failing")
        assert {each.status for each in deliveries(organization)} == {"paused"}

    def test_after_which_the_lane_goes_on(self, organization, far):
        far.answers = [receiver.ok(b"poison"), receiver.ok()]
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        with refusing_attempts("poison"):
            deliver()

        owe(organization, "thing_2")
        # Its minute is not over because of that.
        assert deliver() == 0
        make_due(organization)

        assert deliver() == 1
        assert {each.status for each in deliveries(organization)} == {"succeeded"}
        assert broken_invariants() == []


@contextlib.contextmanager
def refusing_to_let_go(*, times):
    """Have the database refuse so often to let a lane go."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE SEQUENCE refused")
        cursor.execute(
            "CREATE FUNCTION refuse_to_let_go() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN IF nextval('refused') <= {times} THEN RAISE EXCEPTION 'refused';"
            " END IF; RETURN NEW; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER refuse_to_let_go BEFORE UPDATE ON webhooks_webhooklane FOR EACH ROW"
            " WHEN (OLD.state = 'leased') EXECUTE FUNCTION refuse_to_let_go()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse_to_let_go CASCADE")
            cursor.execute("DROP SEQUENCE refused")


class TestPassingFault:
    """However often a lane was worked before, a fault that passes costs it a minute."""

    @pytest.fixture
    def lane(self, organization, far):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        WebhookLane.objects.update(attempts=1_000)
        return WebhookLane.objects.get()

    def rests_a_minute(self, lane):
        lane.refresh_from_db()
        rests = lane.next_attempt_at - clock.database_now()
        return lane.state == "pending" and timedelta(seconds=50) < rests <= timedelta(seconds=60)

    def goes_on(self, organization):
        make_due(organization)
        tasks.send_due()
        return [each.status for each in deliveries(organization)] == ["succeeded"]

    def test_in_the_settings(self, organization, lane, settings):
        denied = settings.WEBHOOK_DENY_NETWORKS
        settings.WEBHOOK_DENY_NETWORKS = ["10.0.0.1/8"]

        tasks.send_due()

        assert self.rests_a_minute(lane)
        settings.WEBHOOK_DENY_NETWORKS = denied
        assert self.goes_on(organization)

    def test_of_the_database_at_the_first_record_of_it(self, organization, lane):
        secret = WebhookSecret.objects.get()
        WebhookSecret.objects.all().delete()

        with refusing_to_let_go(times=1):
            tasks.send_due()

        assert self.rests_a_minute(lane)
        secret.save(force_insert=True)
        assert self.goes_on(organization)

    def test_is_counted_from_the_last_turn_that_went_well(self, organization, lane):
        tasks.send_due()
        owe(organization, "thing_2")
        WebhookSecret.objects.all().delete()

        tasks.send_due()

        lane.refresh_from_db()
        assert (lane.attempts, lane.last_error_code) == (1, "turn_failed")


class TestLaneSetAside:
    @pytest.mark.parametrize("state", ["quarantined", "failed", "paused"])
    def test_shows_as_long_as_it_owes_something(self, organization, far, state):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        WebhookLane.objects.update(state=state)

        assert broken_invariants() == ["webhook_lane_set_aside_has_nothing_to_send"]


class TestRules:
    @pytest.mark.parametrize("outcome", [Outcome.NO_BODY, Outcome.INTERNAL_ERROR])
    def test_a_fault_of_ours_says_nothing_about_the_receiver(self, outcome):
        failing = Health(unreached_in_a_row=4, first_failure_at=clock.now())

        for health in (Health(), failing):
            after = retries.after_attempt(
                health,
                retries.ended_here(
                    delivery_id=UUID(int=1), number=1, outcome=outcome, now=clock.now()
                ),
                circuit_openings=0,
                database_now=clock.now(),
            )
            assert after == health

    def test_ours_count_neither_for_the_disable_rule_nor_for_the_mean(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        lose_body(deliveries(organization)[0])
        began = clock.now() - timedelta(seconds=2)
        deliver()
        key = {"organization_id": organization.id, "endpoint_id": endpoint.id}

        assert WebhookAttempt.objects.count() == 1
        assert queries.count_failed_events(**key, since=began, at_most=10) == 0
        assert queries.list_recent_durations_ms(**key) == []
        assert OutboxEvent.objects.filter(type="webhook_endpoint.disabled").count() == 0
