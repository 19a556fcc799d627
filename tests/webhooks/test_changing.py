"""Endpoints that are changed, switched or taken away while something is under way to them."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection as database
from standardwebhooks import Webhook

from apps.core import clock
from apps.webhooks import operations, queries, tasks
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookLane
from apps.webhooks.operations import Seen
from apps.webhooks.operations._health import health_of
from apps.webhooks.rules import subscriptions
from apps.webhooks.rules.retries import Health, Outcome
from tests.support import race
from tests.webhooks import receiver
from tests.webhooks.acts import Acts, attempt, fan_out_held_up
from tests.webhooks.conftest import broken_invariants
from tests.webhooks.factories import (
    TESTS,
    create_endpoint,
    deliver,
    deliveries,
    make_due,
    owe,
    publish,
    relay,
)
from tests.webhooks.receiver import Receiver
from tests.webhooks.waiting import beside, held_up


def on_lane(number, *, of):
    """An aggregate that is on this lane among so many."""
    names = (f"thing_{each}" for each in range(1000))
    return next(
        name
        for name in names
        if subscriptions.lane_of(subscriptions.lane_key(name), lanes=of) == number
    )


def endpoint_of(organization, far, **terms):
    endpoint, _ = create_endpoint(organization, far.url, event_types=["thing.*"], **terms)
    relay()
    return endpoint, Acts(endpoint)


def open_next():
    """Lease the next due lane; return it with what it is to send."""
    lane = tasks.claim_lane(is_slow=False)
    return lane, operations.open_lane(lane=lane, limit=20, now=clock.now())


class TestFanOut:
    """The endpoint changes after fan-out has looked at it."""

    @pytest.mark.parametrize("paused", ["resume", "discard"])
    def test_owes_an_endpoint_that_is_enabled_meanwhile(self, organization, far, paused):
        _, acts = endpoint_of(organization, far)
        acts.disable()
        publish(organization, "thing_1")

        with fan_out_held_up():
            acts.enable(paused)

        assert [each.status for each in deliveries(organization)] == ["pending"]
        assert broken_invariants() == []
        assert deliver() == 1

    def test_sets_aside_for_one_that_is_disabled_meanwhile(self, organization, far):
        _, acts = endpoint_of(organization, far)
        publish(organization, "thing_1")

        with fan_out_held_up():
            acts.disable()

        assert [each.status for each in deliveries(organization)] == ["paused"]
        assert broken_invariants() == []

    def test_owes_nothing_to_one_that_is_taken_away_meanwhile(self, organization, far):
        _, acts = endpoint_of(organization, far)
        acts.disable()
        publish(organization, "thing_1")

        with fan_out_held_up():
            acts.delete()

        assert deliveries(organization) == []
        assert broken_invariants() == []

    def test_takes_the_lanes_that_there_are_by_then(self, organization, far):
        _, acts = endpoint_of(organization, far, max_in_flight=8, ordering="aggregate")
        name = on_lane(5, of=8)
        publish(organization, name)

        with fan_out_held_up():
            acts.update(max_in_flight=1)
        owe(organization, name, sequence=2)

        assert {each.lane for each in deliveries(organization)} == {0}
        assert broken_invariants() == []
        assert deliver() == 2

    def test_races_with_every_change_and_loses_nothing(self, organization, far):
        _, acts = endpoint_of(organization, far, max_in_flight=8, ordering="aggregate")
        names = [on_lane(number, of=8) for number in range(8)]
        for sequence in range(1, 11):
            acts.disable()
            publish(organization, *names, sequence=sequence)
            lanes = 1 if sequence % 2 else 8
            race(relay, acts.enable, partial(acts.update, max_in_flight=lanes), deliver)
            assert broken_invariants() == []
            make_due(organization)
            deliver()

        assert {each.status for each in deliveries(organization)} == {"succeeded"}
        assert len(set(far.ids())) == len(far.requests) == 80


class TestHolder:
    """A lane's holder has a list of deliveries to send while the endpoint changes."""

    @pytest.fixture(autouse=True)
    def _look_each_time(self, monkeypatch):
        # What it does each second.
        monkeypatch.setattr(tasks, "RECORD_SECONDS", 0)

    def send_all_but(self, far, change):
        """Work a lane with five deliveries; the receiver's first answer follows the change."""

        def answer(connected, _closing):
            try:
                change()
            finally:
                database.close()
            connected.sendall(receiver.ok())

        far.answers = [answer, receiver.ok()]
        lane = tasks.claim_lane(is_slow=False)
        return tasks.work_lane(lane, policy=queries.get_policy())

    @pytest.fixture
    def acts(self, organization, far):
        _, acts = endpoint_of(organization, far, max_in_flight=1)
        owe(organization, *(f"thing_{number}" for number in range(5)))
        return acts

    @pytest.mark.parametrize(("change", "left"), [("delete", "canceled"), ("disable", "paused")])
    def test_stops_when_it_is_taken_away_or_off(self, organization, far, acts, change, left):
        assert self.send_all_but(far, getattr(acts, change)) == 1

        assert len(far.requests) == 1
        assert WebhookLane.objects.get().state == "done"
        # What was on its way by then had been taken back already.
        assert [each.status for each in deliveries(organization)] == [left] * 5
        assert broken_invariants() == []

    def test_sends_what_it_enables_again_afresh(self, organization, far, acts):
        def change():
            acts.disable()
            acts.enable("discard")

        assert self.send_all_but(far, change) == 1

        assert {each.status for each in deliveries(organization)} == {"canceled"}

    def test_goes_on_where_the_new_url_leads(self, organization, far, acts):
        with Receiver() as new:
            assert self.send_all_but(far, partial(acts.update, url=new.url)) == 5

            assert (len(far.requests), len(new.requests)) == (1, 4)
        assert {each.status for each in deliveries(organization)} == {"succeeded"}

    def test_goes_on_under_the_new_secret_alone(self, organization, far, acts):
        secrets = []

        self.send_all_but(far, lambda: secrets.append(acts.rotate()))

        _, *later = far.requests
        assert len(later) == 4
        for request in later:
            Webhook(secrets[0]).verify(request.body, request.headers)
            assert len(request.headers["webhook-signature"].split()) == 1


class TestLanes:
    def test_change_in_number_only_when_none_is_held(self, organization, far):
        """Neither two of one aggregate are under way at once, nor more than there are lanes."""
        endpoint, acts = endpoint_of(organization, far, max_in_flight=8)
        name, answered = on_lane(5, of=8), threading.Event()

        def answer(connected, _closing):
            answered.wait(60)
            connected.sendall(receiver.ok())

        far.answers = [answer, receiver.ok()]
        owe(organization, name)
        owe(organization, name, sequence=2)
        lane = tasks.claim_lane(is_slow=False)
        with beside(partial(tasks.work_lane, lane, policy=queries.get_policy())):
            try:
                far.wait_for(1)
                acts.update(max_in_flight=1)
                owe(organization, name, sequence=3)
                owe(organization, on_lane(2, of=8))
                make_due(organization)

                assert deliver() == 0
                assert len(far.requests) == 1
            finally:
                answered.set()

        make_due(organization)
        deliver()
        endpoint.refresh_from_db()
        assert endpoint.lanes == 1
        assert [each.status for each in deliveries(organization)] == ["succeeded"] * 4
        assert len(set(far.ids())) == len(far.requests) == 4
        assert broken_invariants() == []

    def test_change_in_number_though_a_holder_died(self, organization, far):
        endpoint, acts = endpoint_of(organization, far, max_in_flight=8)
        owe(organization, *(f"thing_{number}" for number in range(20)))
        tasks.claim_lane(is_slow=False)
        acts.update(max_in_flight=2)
        endpoint.refresh_from_db()
        assert endpoint.lanes == 8

        # Its lease ends, and the second that others waited for it.
        WebhookLane.objects.update(next_attempt_at=clock.now())
        deliver()
        make_due(organization)
        deliver()

        endpoint.refresh_from_db()
        assert endpoint.lanes == 2
        assert {each.lane for each in deliveries(organization)} == {0, 1}
        assert {each.status for each in deliveries(organization)} == {"succeeded"}

    def test_are_those_of_now_for_what_is_sent_again(self, organization, far):
        _, acts = endpoint_of(organization, far, max_in_flight=8)
        owe(organization, on_lane(5, of=8))
        deliver()
        [sent] = deliveries(organization)
        acts.update(max_in_flight=1)

        operations.replay_delivery(
            organization_id=organization.id,
            delivery_id=sent.id,
            reason="",
            idempotency_key="again",
            actor=TESTS,
            now=clock.now(),
        )

        assert broken_invariants() == []
        assert [each.lane for each in deliveries(organization)] == [0]
        assert deliver() == 1

    def test_that_held_back_an_aggregate_wake_when_order_no_longer_counts(self, organization, far):
        _, acts = endpoint_of(organization, far, max_in_flight=1, ordering="aggregate")
        far.answers = [receiver.answer("500 Oh"), receiver.ok()]
        owe(organization, "thing_1")
        owe(organization, "thing_1", sequence=2)
        assert deliver() == 1

        acts.update(ordering="none")

        assert deliver() == 1
        assert [each.status for each in deliveries(organization)] == ["pending", "succeeded"]

    def test_let_go_as_the_order_stops_to_count_look_at_all(self, organization, far):
        """The ordering changes when the holder has read the endpoint and waits for the lane."""
        endpoint, _ = endpoint_of(organization, far, max_in_flight=1, ordering="aggregate")
        far.answers = [receiver.answer("500 Oh"), receiver.ok()]
        owe(organization, "thing_1")
        deliver()
        owe(organization, "thing_1", sequence=2)
        owe(organization, "thing_2")
        deliver()
        owe(organization, "thing_3")
        lane, owed = open_next()
        record = partial(
            operations.record_attempts,
            lane=lane,
            seen=owed.seen,
            attempts=[attempt(owed, Outcome.SUCCEEDED)],
            is_last=True,
            now=clock.now(),
        )

        with held_up(record, "UPDATE webhooks_webhooklane SET lane = lane", []) as changing:
            with changing.cursor() as cursor:
                cursor.execute("UPDATE webhooks_webhookendpoint SET ordering = 'none'")
            changing.commit()

        assert WebhookLane.objects.get().next_attempt_at <= clock.now()
        assert deliver() == 1
        statuses = [each.status for each in deliveries(organization, endpoint=endpoint)]
        assert statuses == ["pending", "succeeded", "succeeded", "succeeded"]


class TestVerdicts:
    """What the endpoint that was sent to has shown is no news of what it is now."""

    def test_of_410_at_the_url_before_leaves_the_new_one_on(self, organization, far):
        endpoint, acts = endpoint_of(organization, far, max_in_flight=1)
        owe(organization, "thing_1", "thing_2")
        with Receiver() as new:

            def answer(connected, _closing):
                try:
                    acts.update(url=new.url)
                finally:
                    database.close()
                connected.sendall(receiver.answer("410 Gone"))

            far.answers = [answer]
            deliver()

            assert len(new.requests) == 1
            make_due(organization)
            deliver()
        endpoint.refresh_from_db()
        assert endpoint.status == "enabled"
        assert {each.status for each in deliveries(organization)} == {"succeeded"}

    def test_of_410_is_forgotten_if_the_url_is_changed_before_it_has_an_effect(
        self, organization, far
    ):
        endpoint, acts = endpoint_of(organization, far)
        acts.update(url=far.url + "/new")

        is_off = operations.disable_unreachable_endpoint(
            **acts.key, is_gone=True, revision=endpoint.revision, now=clock.now()
        )

        assert not is_off
        endpoint.refresh_from_db()
        assert endpoint.status == "enabled"

    def test_have_no_effect_on_one_that_is_taken_away_before(self, organization, far, monkeypatch):
        """It is deleted between the record of an attempt and what that attempt leads to."""
        endpoint, acts = endpoint_of(organization, far, max_in_flight=1)
        far.answers = [receiver.answer("410 Gone")]
        owe(organization, "thing_1", "thing_2")
        record = operations.record_attempts

        def record_and_delete(**what):
            recorded = record(**what)
            if recorded.is_gone:
                acts.delete()
            return replace(recorded, moves_to_slow=True)

        monkeypatch.setattr(operations, "record_attempts", record_and_delete)
        lane = tasks.claim_lane(is_slow=False)

        assert tasks.work_lane(lane, policy=queries.get_policy()) == 1

        # That is no fault of ours, which would be logged, and let the lane rest for a minute.
        lane.refresh_from_db()
        assert (lane.state, lane.last_error_code) == ("done", "")
        endpoint.refresh_from_db()
        assert endpoint.status == "deleted"
        assert broken_invariants() == []

    @pytest.mark.parametrize("outcome", [Outcome.CONNECT_ERROR, Outcome.SERVER_ERROR])
    def test_of_the_url_before_leave_the_health_of_the_new_one(self, organization, far, outcome):
        endpoint, acts = endpoint_of(organization, far)
        owe(organization, "thing_1")
        lane, owed = open_next()
        acts.update(url=far.url + "/new")

        recorded = operations.record_attempts(
            lane=lane,
            seen=owed.seen,
            attempts=[attempt(owed, outcome)],
            is_last=False,
            now=clock.now(),
        )

        assert recorded.is_stopped
        endpoint.refresh_from_db()
        assert health_of(endpoint) == Health()
        assert [each.attempts for each in deliveries(organization)] == [1]

    def test_end_with_the_url_and_what_waited_for_it_is_sent(self, organization, far):
        endpoint, acts = endpoint_of(organization, far, max_in_flight=2)
        owe(organization, *(f"thing_{number}" for number in range(6)))
        WebhookEndpoint.objects.update(
            circuit_open_until=clock.now() + timedelta(minutes=15),
            circuit_openings=7,
            unreached_in_a_row=12,
            first_failure_at=clock.now() - timedelta(hours=119),
        )
        assert deliver() == 0

        with Receiver() as new:
            acts.update(url=new.url)
            assert deliver() == 6

        endpoint.refresh_from_db()
        assert health_of(endpoint) == Health()


class TestCircuit:
    def open_lanes(self, organization, far):
        endpoint, _ = endpoint_of(organization, far, max_in_flight=8)
        owe(organization, *(on_lane(number, of=8) for number in range(8)))
        return endpoint, [open_next() for _ in range(8)]

    def fail(self, lane, owed):
        operations.record_attempts(
            lane=lane,
            seen=owed.seen,
            attempts=[attempt(owed, Outcome.CONNECT_ERROR)],
            is_last=True,
            now=clock.now(),
        )

    def test_takes_the_lanes_that_fail_together_for_one_outage(self, organization, far):
        endpoint, opened = self.open_lanes(organization, far)

        race(*(partial(self.fail, lane, owed) for lane, owed in opened))

        endpoint.refresh_from_db()
        assert (endpoint.circuit_openings, endpoint.unreached_in_a_row) == (1, 5)
        until = endpoint.circuit_open_until - clock.database_now()
        assert until <= timedelta(seconds=30)

        # The probe alone doubles it.
        WebhookEndpoint.objects.update(circuit_open_until=clock.now() - timedelta(seconds=1))
        make_due(organization)
        lane, owed = open_next()
        self.fail(lane, owed)
        endpoint.refresh_from_db()
        assert endpoint.circuit_openings == 2
        until = endpoint.circuit_open_until - clock.database_now()
        assert timedelta(seconds=30) < until <= timedelta(seconds=60)

    def test_is_probed_by_a_lane_that_has_something_to_send(self, organization, far):
        endpoint, _ = endpoint_of(organization, far, max_in_flight=2)
        owe(organization, on_lane(0, of=2), on_lane(1, of=2))
        WebhookDelivery.objects.filter(lane=0).update(
            next_attempt_at=clock.now() + timedelta(hours=1)
        )
        ran_out = clock.now() - timedelta(seconds=1)
        WebhookEndpoint.objects.update(
            circuit_open_until=ran_out, circuit_openings=1, unreached_in_a_row=5
        )
        WebhookLane.objects.filter(lane=0).update(next_attempt_at=clock.now() - timedelta(hours=1))

        lane, owed = open_next()
        assert (lane.lane, owed) == (0, None)
        endpoint.refresh_from_db()
        assert endpoint.circuit_open_until == ran_out

        lane, owed = open_next()
        assert lane.lane == 1
        assert (len(owed.owed), owed.seen) == (1, Seen(circuit_openings=1))
        endpoint.refresh_from_db()
        assert endpoint.circuit_open_until > clock.now()
