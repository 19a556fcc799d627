from __future__ import annotations

import json
import time
from datetime import timedelta
from functools import partial

import pytest
from django.db import DatabaseError, IntegrityError, connection, connections
from django.utils import timezone
from standardwebhooks import Webhook

from apps.core import clock, outbox, transactions, work
from apps.core.ids import encode_id, new_id
from apps.core.models import EventWork, OutboxEvent
from apps.webhooks import operations, queries, tasks
from apps.webhooks.models import (
    WebhookAttempt,
    WebhookBody,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookFanout,
    WebhookLane,
)
from apps.webhooks.operations import LaneWork, Seen
from apps.webhooks.rules.retries import Attempt, Outcome
from tests.accounts.factories import create_organization
from tests.support import race
from tests.webhooks import receiver
from tests.webhooks.conftest import broken_invariants
from tests.webhooks.factories import (
    TESTS,
    create_customer,
    create_endpoint,
    deliver,
    deliveries,
    make_due,
    owe,
    publish,
    relay,
)
from tests.webhooks.receiver import Receiver


class TestFanOut:
    def test_reaches_the_receiver_signed(self, organization, far):
        _, secret = create_endpoint(organization, far.url)
        owe(organization, "thing_1", text="hello")

        assert deliver() == 1

        [request] = far.requests
        body = Webhook(secret).verify(request.body, request.headers)
        event = OutboxEvent.objects.get(type="thing.changed")
        assert body == {
            "id": encode_id("evt", event.id),
            "type": "thing.changed",
            "timestamp": event.occurred_at.isoformat().replace("+00:00", "Z"),
            "api_version": "2026-11-01",
            "organization_id": encode_id("org", organization.id),
            "sequence": 1,
            "aggregate": {"type": "thing", "id": "thing_1"},
            "data": {"text": "hello"},
        }
        assert request.headers["webhook-id"] == encode_id("evt", event.id)
        [delivery] = deliveries(organization)
        assert (delivery.status, delivery.attempts, delivery.last_status_code) == (
            "succeeded",
            1,
            200,
        )
        [attempt] = WebhookAttempt.objects.all()
        assert (attempt.number, attempt.outcome, attempt.address, attempt.answer_head) == (
            1,
            "succeeded",
            "127.0.0.1",
            "thanks",
        )
        assert (attempt.endpoint_id, attempt.status_code) == (delivery.endpoint_id, 200)
        assert event.recorded_at - timedelta(seconds=1) < attempt.started_at <= clock.now()
        assert broken_invariants() == []

    def test_brings_a_real_change_of_another_app(self, organization, far):
        create_endpoint(organization, far.url, event_types=["customer.created"])
        customer = create_customer(organization)
        relay()
        deliver()

        body = json.loads(far.requests[0].body)
        assert body["type"] == "customer.created"
        assert body["aggregate"]["id"] == encode_id("cus", customer.id)
        assert b"Lovelace" not in far.requests[0].body

    def test_sends_only_what_is_subscribed_and_only_at_home(self, organization, far):
        other = create_organization()
        create_endpoint(organization, far.url, event_types=["customer.*"])
        create_endpoint(other, far.url, event_types=["customer.*"])
        owe(organization, "thing_1")
        create_customer(organization)
        relay()

        assert deliver() == 1
        assert deliveries(other) == []

    def test_skips_what_was_before_the_endpoint(self, organization, far):
        publish(organization, "thing_1")
        create_endpoint(organization, far.url)
        relay()

        assert [each.event_type for each in deliveries(organization)] == []

    def test_adds_nothing_the_second_time(self, organization, far):
        create_endpoint(organization, far.url)
        owe(organization, "thing_1", "thing_2")
        committed = list(OutboxEvent.objects.filter(type="thing.changed"))

        @operations_in_a_transaction
        def again():
            operations.fan_out(organization_id=organization.id, committed=committed)

        again()

        assert len(deliveries(organization)) == 2
        assert WebhookBody.objects.count() == 2
        assert WebhookFanout.objects.count() == 2
        assert broken_invariants() == []

    def test_leaves_nothing_behind_when_the_change_is_undone(self, organization, far):
        create_endpoint(organization, far.url)

        @operations_in_a_transaction
        def undone():
            publish.__wrapped__(organization, "thing_1")
            raise RuntimeError("undo")

        with pytest.raises(RuntimeError):
            undone()
        relay()

        assert deliver() == 0

    def test_wakes_a_lane_that_is_let_go_at_the_same_time(self, organization, far):
        """Release and fan-out race for the lane; whoever is second sees the other's rows."""
        create_endpoint(organization, far.url, max_in_flight=1)
        for round_ in range(15):
            owe(organization, f"thing_{round_}")
            lane = tasks.claim_lane(is_slow=False)
            publish(organization, f"more_{round_}")
            race(partial(tasks.work_lane, lane, policy=queries.get_policy()), relay)
            assert broken_invariants() == []
            deliver()

        assert {each.status for each in deliveries(organization)} == {"succeeded"}
        assert len(far.requests) == 30


def operations_in_a_transaction(body):
    return transactions.outermost(body)


class TestRetries:
    def test_come_after_a_failure_with_the_same_id_and_body(self, organization, far):
        far.answers = [receiver.answer("500 Oh"), receiver.ok()]
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")

        assert deliver() == 1
        [failed] = deliveries(organization)
        assert (failed.status, failed.attempts, failed.last_outcome) == (
            "pending",
            1,
            "server_error",
        )
        make_due(organization)
        assert deliver() == 1

        first, second = far.requests
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.body == second.body
        assert deliveries(organization)[0].status == "succeeded"
        assert [each.number for each in WebhookAttempt.objects.order_by("id")] == [1, 2]

    @pytest.mark.parametrize(
        ("answer", "outcome", "least", "most"),
        [
            (receiver.answer("302 Found"), "redirected", 4, 6),
            (receiver.answer("404 Not Found"), "refused", 4, 6),
            (receiver.answer("503 Oh"), "server_error", 4, 6),
            (receiver.hang_up, "connect_error", 4, 6),
            (receiver.hang, "timeout", 60, 60),
            (receiver.answer("429 Wait"), "rate_limited", 60, 60),
            # As asked, but no longer than twice the delay; a busy receiver has its minute anyway.
            (receiver.answer("503 Oh", headers="Retry-After: 3600\r\n"), "server_error", 10, 10),
            (receiver.answer("503 Oh", headers="Retry-After: 1\r\n"), "server_error", 5, 5),
            (receiver.answer("429 Wait", headers="Retry-After: 8\r\n"), "rate_limited", 60, 60),
        ],
    )
    def test_come_after_the_delay_of_the_outcome(
        self, organization, far, monkeypatch, answer, outcome, least, most
    ):
        if answer is receiver.hang:
            monkeypatch.setattr("apps.webhooks.adapters.sender.ATTEMPT_SECONDS_MAX", 0.2)
        far.answers = [answer]
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        asked = clock.database_now()
        lane = tasks.claim_lane(is_slow=False)
        tasks.work_lane(lane, policy=queries.get_policy())

        [failed] = deliveries(organization)
        assert (failed.status, failed.attempts, failed.last_outcome) == ("pending", 1, outcome)
        # It is added to the database's clock when the attempt is recorded.
        recorded = clock.database_now()
        assert asked + timedelta(seconds=least) <= failed.next_attempt_at
        assert failed.next_attempt_at <= recorded + timedelta(seconds=most)

    def test_are_signed_with_the_time_of_each_attempt(self, organization, far, monkeypatch):
        far.answers = [receiver.answer("500 Oh"), receiver.ok()]
        _, secret = create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        deliver()
        make_due(organization)
        now = LaneWork.now
        monkeypatch.setattr(LaneWork, "now", lambda owed: now(owed) + timedelta(seconds=100))
        deliver()

        first, second = far.requests
        times = [int(each.headers["webhook-timestamp"]) for each in far.requests]
        assert 100 <= times[1] - times[0] < 200
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        for request in far.requests:
            Webhook(secret).verify(request.body, request.headers)

    def test_store_whatever_was_answered(self, organization, far):
        far.answers = [receiver.ok(b"<b>a\x00b\xff\xf0\x9f" + b"\x00" * 5_000)]
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")

        assert deliver() == 1

        assert WebhookAttempt.objects.get().answer_head == "<b>ab\ufffd\ufffd"
        assert deliveries(organization)[0].status == "succeeded"

    def test_end_after_ten_and_are_told_to_the_other_endpoints(self, organization, far):
        far.answers = [receiver.answer("404 Not Found")]
        broken, _ = create_endpoint(organization, far.url, event_types=["thing.*"])
        with Receiver() as healthy:
            create_endpoint(organization, healthy.url, event_types=["webhook_delivery.*"])
            owe(organization, "thing_1")
            for _ in range(12):
                deliver()
                make_due(organization)

            [delivery] = deliveries(organization, endpoint=broken)
            assert (delivery.status, delivery.attempts) == ("failed", 10)
            assert len(far.requests) == 10
            relay()
            deliver()
            [told] = healthy.requests
            body = json.loads(told.body)
            assert body["type"] == "webhook_delivery.exhausted"
            assert body["data"]["endpoint"] == encode_id("whe", broken.id)
            assert body["data"]["attempts"] == 10
        assert broken_invariants() == []

    def test_of_operational_events_cause_no_further_ones(self, organization, far):
        far.answers = [receiver.answer("404 Not Found")]
        endpoint, _ = create_endpoint(organization, far.url)
        operations.ping_endpoint(
            organization_id=organization.id,
            endpoint_id=endpoint.id,
            idempotency_key="p",
            actor=TESTS,
            now=clock.now(),
        )
        relay()
        for _ in range(10):
            deliver()
            make_due(organization)

        assert deliveries(organization)[0].status == "failed"
        assert not OutboxEvent.objects.filter(type="webhook_delivery.exhausted").exists()


class TestGone:
    def test_switches_the_endpoint_off_at_once(self, organization, far):
        far.answers = [receiver.answer("410 Gone")]
        endpoint, _ = create_endpoint(
            organization, far.url, event_types=["thing.*"], max_in_flight=1
        )
        with Receiver() as healthy:
            create_endpoint(organization, healthy.url, event_types=["webhook_endpoint.*"])
            owe(organization, "thing_1", "thing_2")
            deliver()

            endpoint.refresh_from_db()
            assert (endpoint.status, endpoint.disabled_reason) == ("disabled", "gone")
            assert len(far.requests) == 1
            paused = deliveries(organization, endpoint=endpoint)
            assert [each.status for each in paused] == ["paused", "paused"]
            relay()
            deliver()
            assert json.loads(healthy.requests[0].body)["type"] == "webhook_endpoint.disabled"
        # What happens while it is off is kept for it, and sent nowhere.
        before = len(far.requests)
        owe(organization, "thing_3")
        assert deliver() == 0
        assert len(far.requests) == before
        assert deliveries(organization, endpoint=endpoint)[-1].status == "paused"
        assert broken_invariants() == []


class TestDisableRule:
    def fail(self, organization, far, *, hours, events):
        far.answers = [receiver.answer("500 Oh")]
        endpoint, _ = create_endpoint(organization, far.url)
        owe(organization, *(f"thing_{number}" for number in range(events)))
        deliver()
        WebhookEndpoint.objects.filter(id=endpoint.id).update(
            first_failure_at=clock.now() - timedelta(hours=hours)
        )
        make_due(organization)
        return endpoint

    @pytest.mark.parametrize(
        ("hours", "events", "status"),
        [(121, 10, "disabled"), (121, 9, "enabled"), (119, 12, "enabled")],
    )
    def test_takes_five_days_and_ten_events(self, organization, far, hours, events, status):
        endpoint = self.fail(organization, far, hours=hours, events=events)
        deliver()

        endpoint.refresh_from_db()
        assert endpoint.status == status
        assert endpoint.disabled_reason == ("failing" if status == "disabled" else "")
        open_ = "paused" if status == "disabled" else "pending"
        assert {each.status for each in deliveries(organization)} == {open_}

    def test_loses_nothing_of_what_is_set_aside(self, organization, far):
        endpoint = self.fail(organization, far, hours=121, events=10)
        deliver()
        owe(organization, "thing_of_meanwhile")
        far.answers = [receiver.ok()]
        far.requests.clear()
        make_due(organization)
        assert deliver() == 0

        operations.enable_endpoint(
            organization_id=organization.id,
            endpoint_id=endpoint.id,
            paused="resume",
            since=None,
            idempotency_key="on",
            actor=TESTS,
            now=clock.now(),
        )

        assert deliver() == 11
        assert len(set(far.ids())) == 11
        assert {each.status for each in deliveries(organization)} == {"succeeded"}
        endpoint.refresh_from_db()
        assert endpoint.first_failure_at is None

    def test_counts_the_events_of_the_first_failures(self, organization, far, monkeypatch):
        """Ten events fail together, and after five days one of them does once more."""
        far.answers = [receiver.answer("500 Oh")]
        endpoint, _ = create_endpoint(organization, far.url)
        owe(organization, *(f"thing_{number}" for number in range(10)))
        with monkeypatch.context() as then:
            then.setattr(clock, "now", lambda: timezone.now() - timedelta(hours=121))
            assert deliver() == 10
        [first, *_] = deliveries(organization)
        WebhookDelivery.objects.filter(id=first.id).update(next_attempt_at=clock.now())
        WebhookLane.objects.filter(lane=first.lane).update(next_attempt_at=clock.now())

        assert deliver() == 1

        endpoint.refresh_from_db()
        assert (endpoint.status, endpoint.disabled_reason) == ("disabled", "failing")

    def test_is_cleared_by_one_success(self, organization, far):
        endpoint = self.fail(organization, far, hours=119, events=12)
        far.answers = [receiver.ok()]
        deliver()

        endpoint.refresh_from_db()
        assert endpoint.first_failure_at is None
        assert {each.status for each in deliveries(organization)} == {"succeeded"}


class TestCircuit:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch):
        monkeypatch.setattr("apps.webhooks.adapters.sender.ATTEMPT_SECONDS_MAX", 0.2)

    def test_opens_after_five_and_sends_one_probe(self, organization, far):
        far.answers = [receiver.hang]
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=2)
        owe(organization, *(f"thing_{number}" for number in range(30)))
        lane = tasks.claim_lane(is_slow=False)
        tasks.work_lane(lane, policy=queries.get_policy())
        opened_with = len(far.requests)
        assert opened_with == 5
        endpoint.refresh_from_db()
        assert endpoint.circuit_open_until > clock.now()

        assert deliver() == 0
        assert len(far.requests) == opened_with
        assert len(deliveries(organization, attempts=0)) == 25

        far.answers = [receiver.ok()]
        WebhookEndpoint.objects.filter(id=endpoint.id).update(circuit_open_until=clock.now())
        make_due(organization)
        probing = tasks.claim_lane(is_slow=False)
        owed = operations.open_lane(lane=probing, limit=20, now=clock.now())
        assert len(owed.owed) == 1
        other = tasks.claim_lane(is_slow=False)
        assert operations.open_lane(lane=other, limit=20, now=clock.now()) is None

    def test_of_one_endpoint_leaves_the_others_alone(self, organization, far, monkeypatch):
        # Whoever is well has all the time there is.
        monkeypatch.setattr("apps.webhooks.adapters.sender.ATTEMPT_SECONDS_MAX", 15.0)
        far.answers = [receiver.hang_up]
        broken, _ = create_endpoint(organization, far.url, event_types=["thing.*"], max_in_flight=1)
        with Receiver() as healthy:
            well, _ = create_endpoint(organization, healthy.url, event_types=["thing.*"])
            owe(organization, *(f"thing_{number}" for number in range(30)))

            assert deliver() == 5 + 30

            assert len(set(healthy.ids())) == 30
        broken.refresh_from_db()
        well.refresh_from_db()
        assert broken.circuit_open_until > clock.now()
        assert (well.circuit_open_until, well.unreached_in_a_row) == (None, 0)
        assert {each.status for each in deliveries(organization, endpoint=well)} == {"succeeded"}

    def test_stays_open_where_the_probe_asked_nobody(self, organization, far, settings):
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{number}" for number in range(3)))
        WebhookEndpoint.objects.filter(id=endpoint.id).update(
            circuit_open_until=clock.now() - timedelta(seconds=1),
            circuit_openings=3,
            unreached_in_a_row=7,
        )
        settings.WEBHOOK_ALLOW_NETWORKS = []

        assert deliver() == 1

        assert far.connections == 0
        assert WebhookAttempt.objects.get().outcome == "blocked_address"
        endpoint.refresh_from_db()
        assert endpoint.circuit_open_until > endpoint.first_failure_at
        assert (endpoint.circuit_openings, endpoint.unreached_in_a_row) == (3, 7)
        assert len(deliveries(organization, attempts=0)) == 2

    def test_closes_when_the_probe_is_answered_and_wakes_the_others(self, organization, far):
        far.answers = [receiver.ok()]
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=4)
        owe(organization, *(f"thing_{number}" for number in range(12)))
        WebhookEndpoint.objects.filter(id=endpoint.id).update(
            circuit_open_until=clock.now() - timedelta(seconds=1),
            circuit_openings=3,
            unreached_in_a_row=7,
            first_failure_at=clock.now(),
        )

        assert deliver() == 12
        endpoint.refresh_from_db()
        assert (endpoint.circuit_open_until, endpoint.circuit_openings) == (None, 0)
        assert {each.status for each in deliveries(organization)} == {"succeeded"}


class Watch:
    """The senders' clock, which a receiver can have go on; and what they have recorded by then."""

    def __init__(self):
        self.gone_on = 0.0
        self.recorded = []

    def monotonic(self):
        return time.monotonic() + self.gone_on

    def passing(self, *, seconds):
        """An answer during which time passes."""

        def answer(connected, _closing):
            self.gone_on += seconds
            connected.sendall(receiver.ok())

        return answer

    def counting(self):
        """An answer before which the attempts that are recorded are counted."""

        def answer(connected, _closing):
            try:
                self.recorded.append(WebhookAttempt.objects.count())
            finally:
                connection.close()
            connected.sendall(receiver.ok())

        return answer


@pytest.fixture
def watch(monkeypatch):
    watch = Watch()
    monkeypatch.setattr(tasks, "time", watch)
    return watch


class TestLanes:
    def test_begin_no_attempt_that_would_outlast_their_lease(self, organization, far, monkeypatch):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        lane = tasks.claim_lane(is_slow=False)
        with monkeypatch.context() as patched:
            # What the turn is to begin by is over before its first attempt.
            patched.setattr(tasks, "LANE_SECONDS_MAX", -1.0)

            made = tasks.work_lane(lane, policy=queries.get_policy())

        assert (made, far.requests) == (0, [])
        lane.refresh_from_db()
        assert (lane.state, lane.lease_token, lane.lapses) == ("pending", None, 0)
        assert deliver() == 1

    def test_keep_to_their_number_and_to_one_of_an_aggregate(self, organization, far):
        create_endpoint(organization, far.url, max_in_flight=3)
        owe(organization, *(f"thing_{number % 7}" for number in range(40)))

        assert WebhookLane.objects.count() == 3
        claimed = [tasks.claim_lane(is_slow=False) for _ in range(4)]
        assert claimed[3] is None
        lanes_of = {}
        for each in deliveries(organization):
            lanes_of.setdefault(each.aggregate_id, set()).add(each.lane)
        assert all(len(lanes) == 1 for lanes in lanes_of.values())

    def test_send_an_ordered_aggregate_only_in_order(self, organization, far):
        far.answers = [receiver.answer("500 Oh"), receiver.ok()]
        create_endpoint(organization, far.url, ordering="aggregate")
        for sequence in (1, 2, 3):
            owe(organization, "thing_1", sequence=sequence)

        assert deliver() == 1
        assert deliver() == 0
        make_due(organization)
        assert deliver() == 3
        sequences = [json.loads(each.body)["sequence"] for each in far.requests]
        assert sequences == [1, 1, 2, 3]
        assert broken_invariants() == []

    def test_send_what_follows_in_order_once_the_earlier_one_is_exhausted(self, organization, far):
        far.answers = [receiver.answer("500 Oh")] * 2 + [receiver.ok()]
        create_endpoint(organization, far.url, ordering="aggregate", event_types=["thing.*"])
        for sequence in (1, 2):
            owe(organization, "thing_1", sequence=sequence)
        WebhookDelivery.objects.filter(sequence=1).update(attempts=8)

        assert deliver() == 1
        make_due(organization)
        # The tenth of the first, and the second right after it.
        assert deliver() == 2

        sequences = [json.loads(each.body)["sequence"] for each in far.requests]
        assert sequences == [1, 1, 2]
        assert [each.status for each in deliveries(organization)] == ["failed", "succeeded"]

    def test_send_an_ordered_aggregate_in_order_however_it_is_fanned_out(self, organization, far):
        create_endpoint(organization, far.url, ordering="aggregate", event_types=["thing.*"])
        relay()
        publish(organization, "thing_1", sequence=1)
        while outbox.relay():
            pass
        # A slow worker has the first batch, and the second comes by another.
        work.claim_due(EventWork, limit=1, lease_seconds=60)
        owe(organization, "thing_1", "thing_2", sequence=2)
        deliver()
        assert [json.loads(each.body)["aggregate"]["id"] for each in far.requests] == ["thing_2"]

        EventWork.objects.exclude(state="done").update(next_attempt_at=clock.now())
        relay()
        EventWork.objects.exclude(state="done").update(next_attempt_at=clock.now())
        relay()
        deliver()

        sequences = [json.loads(each.body)["sequence"] for each in far.requests]
        assert sequences == [2, 1, 2]
        assert {each.status for each in deliveries(organization)} == {"succeeded"}
        assert broken_invariants() == []

    def test_yield_after_fifty(self, organization, far):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{number}" for number in range(60)))
        lane = tasks.claim_lane(is_slow=False)

        assert tasks.work_lane(lane, policy=queries.get_policy()) == 50
        lane.refresh_from_db()
        assert (lane.state, lane.lapses) == ("pending", 0)
        assert deliver() == 10

    def test_yield_after_ten_seconds(self, organization, far, watch):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{number}" for number in range(6)))
        far.answers = [receiver.ok(), receiver.ok(), watch.passing(seconds=10), receiver.ok()]
        lane = tasks.claim_lane(is_slow=False)

        assert tasks.work_lane(lane, policy=queries.get_policy()) == 3

        lane.refresh_from_db()
        assert (lane.state, lane.lapses) == ("pending", 0)
        assert len(deliveries(organization, status="succeeded")) == 3
        assert deliver() == 3

    def test_record_each_second(self, organization, far, watch):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{number}" for number in range(4)))
        far.answers = [receiver.ok(), watch.passing(seconds=1), watch.counting(), receiver.ok()]

        assert deliver() == 4

        assert watch.recorded == [2]

    def test_record_each_twenty(self, organization, far, watch, monkeypatch):
        monkeypatch.setattr(tasks, "RECORD_SECONDS", 3600)
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{number}" for number in range(45)))
        far.answers = [watch.counting()]

        assert deliver() == 45

        assert watch.recorded == [0] * 20 + [20] * 20 + [40] * 5

    def test_are_respread_when_their_number_changes(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=8)
        owe(organization, *(f"thing_{number}" for number in range(30)))
        operations.update_endpoint(
            organization_id=organization.id,
            endpoint_id=endpoint.id,
            changes={"max_in_flight": 2},
            actor=TESTS,
            now=clock.now(),
        )

        assert {each.lane for each in deliveries(organization)} == {0, 1}
        assert deliver() == 30

    def test_move_to_the_slow_workers_and_back(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url)
        owe(organization, *(f"thing_{number}" for number in range(20)))
        [first, *_] = deliveries(organization)
        WebhookAttempt.objects.bulk_create(
            WebhookAttempt(
                organization=organization,
                delivery=first,
                endpoint=endpoint,
                number=1,
                started_at=clock.now(),
                duration_ms=9_000,
                outcome="timeout",
            )
            for _ in range(200)
        )
        lane = tasks.claim_lane(is_slow=False)
        tasks.work_lane(lane, policy=queries.get_policy())

        assert set(WebhookLane.objects.values_list("is_slow", flat=True)) == {True}
        assert deliver() == 0
        owe(organization, *(f"more_{number}" for number in range(40)))
        assert deliver(is_slow=True) > 0
        assert False in set(WebhookLane.objects.values_list("is_slow", flat=True))

    def test_that_a_slow_endpoint_is_given_are_slow_as_well(self, organization, far):
        """At one second and a half it is neither moved to the slow workers nor back."""
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
        other, _ = create_endpoint(organization, far.url, max_in_flight=1)
        operations.move_to_queue(
            organization_id=organization.id, endpoint_id=endpoint.id, is_slow=True
        )

        for each in (endpoint, other):
            operations.update_endpoint(
                organization_id=organization.id,
                endpoint_id=each.id,
                changes={"max_in_flight": 8},
                actor=TESTS,
                now=clock.now(),
            )

        lanes = WebhookLane.objects.values_list("endpoint_id", "is_slow")
        assert sorted(lanes) == sorted([(endpoint.id, True), (other.id, False)] * 8)

    def test_lost_to_another_holder_are_recorded_as_facts_only(self, organization, far):
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        lost = tasks.claim_lane(is_slow=False)
        WebhookLane.objects.filter(id=lost.id).update(next_attempt_at=clock.now())
        taken = tasks.claim_lane(is_slow=False)
        [delivery] = deliveries(organization)
        attempt = Attempt(
            delivery_id=delivery.id,
            number=1,
            started_at=clock.now(),
            duration_ms=5,
            outcome=Outcome.SUCCEEDED,
            status_code=200,
        )

        recorded = operations.record_attempts(
            lane=lost, seen=Seen(), attempts=[attempt], is_last=True, now=clock.now()
        )

        assert not recorded.is_held
        assert WebhookAttempt.objects.count() == 1
        assert deliveries(organization)[0].status == "pending"
        assert tasks.work_lane(taken, policy=queries.get_policy()) == 1
        assert deliveries(organization)[0].status == "succeeded"

    def test_hold_no_database_connection_while_the_receiver_thinks(self, organization, far):
        seen = []
        # The one of this thread, and not that of whichever thread looks.
        own = connections["default"]

        def look(connected, _closing):
            seen.append(own.connection)
            connected.sendall(receiver.ok())

        far.answers = [look]
        create_endpoint(organization, far.url)
        owe(organization, "thing_1", "thing_2")
        assert own.connection is not None

        deliver()

        assert seen == [None, None]


class TestAddressesAtSending:
    def test_are_refused_without_a_byte_once_the_policy_forbids_them(
        self, organization, far, settings
    ):
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        settings.WEBHOOK_ALLOW_NETWORKS = []
        asked = clock.database_now()
        lane = tasks.claim_lane(is_slow=False)

        assert tasks.work_lane(lane, policy=queries.get_policy()) == 1

        assert far.connections == 0
        [delivery] = deliveries(organization)
        assert (delivery.status, delivery.last_outcome) == ("pending", "blocked_address")
        assert delivery.attempts == 1
        recorded = clock.database_now()
        assert asked + timedelta(seconds=4) <= delivery.next_attempt_at
        assert delivery.next_attempt_at <= recorded + timedelta(seconds=6)
        assert WebhookAttempt.objects.get().outcome == "blocked_address"


class TestRows:
    """Round the ORM, as whoever owns the tables might."""

    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE webhooks_webhookattempt SET status_code = 200",
            "DELETE FROM webhooks_webhookattempt",
            "TRUNCATE webhooks_webhookattempt",
            "UPDATE webhooks_webhookbody SET body = 'x'",
            "DELETE FROM webhooks_webhookdelivery",
            "DELETE FROM webhooks_webhookendpoint",
            "UPDATE webhooks_webhookdelivery SET status = 'paused'",
            "UPDATE webhooks_webhookdelivery SET event_id = gen_random_uuid()",
            "UPDATE webhooks_webhookdelivery SET closed_at = NULL",
            "UPDATE webhooks_webhookfanout SET delivery_count = 9",
            "UPDATE webhooks_webhookendpoint SET max_in_flight = 9",
            "UPDATE webhooks_webhookendpoint SET max_in_flight = 0",
            "UPDATE webhooks_webhookendpoint SET status = 'disabled'",
        ],
    )
    def test_refuse_what_the_states_do_not_know(self, organization, far, sql):
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        deliver()

        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute(sql)

    def test_owe_an_event_to_an_endpoint_once(self, organization, far):
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        [row] = deliveries(organization)
        row.id = new_id()

        with pytest.raises(IntegrityError, match="webhook_event_is_owed_once_to_an_endpoint"):
            row.save(force_insert=True)

    def test_of_one_organization_are_not_owed_to_another_s_endpoint(self, organization, far):
        other = create_organization()
        endpoint, _ = create_endpoint(other, far.url)

        with pytest.raises(DatabaseError, match="webhook_delivery_is_to_its_endpoint"):
            WebhookDelivery.objects.create(
                organization=organization,
                endpoint=endpoint,
                event_id=endpoint.id,
                event_type="thing.changed",
                aggregate_id="thing_1",
                sequence=1,
                api_version="2026-11-01",
                lane_key=0,
                lane=0,
            )


class TestRaces:
    def test_many_holders_send_everything_once(self, organization, far):
        create_endpoint(organization, far.url, max_in_flight=8)
        owe(organization, *(f"thing_{number}" for number in range(80)))

        race(*[deliver] * 4)

        assert len(far.requests) == 80
        assert len(set(far.ids())) == 80
        assert {each.status for each in deliveries(organization)} == {"succeeded"}
        assert broken_invariants() == []

    def test_switching_off_while_sending_loses_nothing(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=4)
        owe(organization, *(f"thing_{number}" for number in range(60)))
        key = {"organization_id": organization.id, "endpoint_id": endpoint.id}
        more = {"actor": TESTS, "now": clock.now()}

        race(
            deliver,
            deliver,
            partial(
                operations.disable_endpoint, **key, **more, reason="test", idempotency_key="off"
            ),
        )
        assert {each.status for each in deliveries(organization)} <= {"succeeded", "paused"}
        operations.enable_endpoint(**key, **more, paused="resume", since=None, idempotency_key="on")
        deliver()

        assert {each.status for each in deliveries(organization)} == {"succeeded"}
        assert len(set(far.ids())) == 60
        assert broken_invariants() == []
