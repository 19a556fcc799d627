"""Who is told to look when a lane falls due: the workers that take it, and not the others."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import current_app

from apps.core import clock, nudging
from apps.webhooks import operations, queries, tasks
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookLane, WebhookSecret
from tests.support import empty_broker
from tests.webhooks import receiver
from tests.webhooks.conftest import broken_invariants
from tests.webhooks.factories import (
    TESTS,
    create_endpoint,
    deliver,
    deliveries,
    make_due,
    owe,
    relay,
)


@pytest.fixture
def fresh_broker(monkeypatch):
    """Forget what was sent while a test made its endpoints."""

    def begin():
        empty_broker()
        monkeypatch.setattr(nudging, "_nudger", nudging.Nudger())

    yield begin
    empty_broker()


def told():
    """The queues of senders that have a message."""
    with current_app.connection_for_read() as broker:
        size = broker.default_channel._size
        return {queue for queue in ("webhooks", "webhooks_slow") if size(queue)}


def endpoint_of(organization, far, *, is_slow):
    endpoint, _ = create_endpoint(organization, far.url, event_types=["thing.*"])
    WebhookLane.objects.filter(endpoint=endpoint).update(is_slow=is_slow)
    return endpoint


class TestFanOut:
    @pytest.mark.parametrize(
        ("slow", "expected"),
        [
            ([False], {"webhooks"}),
            ([True], {"webhooks_slow"}),
            ([True, False], {"webhooks", "webhooks_slow"}),
        ],
    )
    def test_tells_the_workers_of_each_endpoint(
        self, organization, far, fresh_broker, slow, expected
    ):
        for is_slow in slow:
            endpoint_of(organization, far, is_slow=is_slow)
        relay()
        fresh_broker()

        owe(organization, "thing_1")

        assert told() == expected


class TestClaim:
    @pytest.mark.parametrize(
        ("is_slow", "expected"), [(True, {"webhooks_slow"}), (False, {"webhooks"})]
    )
    def test_tells_another_thread_to_look_before_anything_is_sent(
        self, organization, far, fresh_broker, is_slow, expected
    ):
        found = []

        def answer(connected, _closing):
            found.append(told())
            connected.sendall(receiver.ok())

        far.answers = [answer]
        endpoint_of(organization, far, is_slow=is_slow)
        owe(organization, "thing_1")
        fresh_broker()

        assert (tasks.send_slow_due if is_slow else tasks.send_due)() == 1

        # Else many due lanes would have one holder more each second, by the sweep.
        assert found == [expected]


class TestMove:
    @pytest.mark.parametrize(
        ("is_slow", "expected"), [(True, {"webhooks_slow"}), (False, {"webhooks"})]
    )
    def test_tells_those_who_take_the_lanes_from_now_on(
        self, organization, far, fresh_broker, is_slow, expected
    ):
        endpoint = endpoint_of(organization, far, is_slow=not is_slow)
        owe(organization, "thing_1")
        make_due(organization)
        fresh_broker()

        operations.move_to_queue(
            organization_id=organization.id, endpoint_id=endpoint.id, is_slow=is_slow
        )

        assert told() == expected


class TestProbe:
    def test_that_is_answered_wakes_the_other_lanes_of_a_slow_endpoint(
        self, organization, far, fresh_broker
    ):
        endpoint = endpoint_of(organization, far, is_slow=True)
        owe(organization, "thing_1")
        fresh_broker()

        operations.wake_endpoint(organization_id=organization.id, endpoint_id=endpoint.id)

        assert told() == {"webhooks_slow"}

    def test_that_is_answered_ends_the_rest_of_the_lane_that_waited_for_it(self, organization, far):
        endpoint, _ = create_endpoint(
            organization, far.url, event_types=["thing.*"], max_in_flight=2
        )
        owe(organization, *(f"thing_{number}" for number in range(8)))
        WebhookEndpoint.objects.filter(id=endpoint.id).update(
            circuit_open_until=clock.now() - timedelta(seconds=1),
            circuit_openings=1,
            unreached_in_a_row=5,
        )
        probing, waiting = (tasks.claim_lane(is_slow=False) for _ in range(2))
        looked = []

        def let_the_other_look(connected, _closing):
            looked.append(tasks.work_lane(waiting, policy=queries.get_policy()))
            connected.sendall(receiver.ok())

        far.answers = [let_the_other_look, receiver.ok()]

        tasks.work_lane(probing, policy=queries.get_policy())

        assert looked == [0]
        deliver()
        assert {each.status for each in deliveries(organization)} == {"succeeded"}


class TestRest:
    """What a lane rests for is not over because something more is owed."""

    def endpoint_of(self, organization, far):
        endpoint, _ = create_endpoint(
            organization, far.url, event_types=["thing.*"], max_in_flight=1
        )
        relay()
        return endpoint

    @pytest.fixture
    def turns(self, monkeypatch):
        """Count the turns of lanes that met a fault."""
        met = []
        real = operations.put_lane_off

        def count(**lane):
            met.append(lane)
            real(**lane)

        monkeypatch.setattr(operations, "put_lane_off", count)
        return met

    def open_circuit(self, endpoint, **after):
        until = clock.now() + timedelta(**after)
        WebhookEndpoint.objects.filter(id=endpoint.id).update(
            circuit_open_until=until, circuit_openings=1, unreached_in_a_row=5
        )
        return until

    def test_after_a_fault_is_a_minute_however_much_is_owed_meanwhile(
        self, organization, far, turns
    ):
        endpoint = self.endpoint_of(organization, far)
        sealed = WebhookSecret.objects.values_list("sealed", flat=True).get()
        WebhookSecret.objects.update(sealed=b"no secret")
        owe(organization, "thing_1")
        deliver()
        due = WebhookLane.objects.get().next_attempt_at

        for number in range(2, 6):
            owe(organization, f"thing_{number}")
            assert deliver() == 0

        assert len(turns) == 1
        assert WebhookLane.objects.get().next_attempt_at == due
        # Once it is over the lane is like any other.
        WebhookSecret.objects.update(sealed=sealed)
        make_due(organization)
        assert deliver() == 5
        owe(organization, "thing_6")
        assert deliver() == 1
        assert {each.status for each in deliveries(organization, endpoint=endpoint)} == {
            "succeeded"
        }

    def test_lasts_as_long_as_the_circuit_is_open(self, organization, far):
        endpoint = self.endpoint_of(organization, far)
        until = self.open_circuit(endpoint, minutes=15)
        owe(organization, "thing_1")
        assert deliver() == 0
        lane = WebhookLane.objects.get()
        assert (lane.state, lane.next_attempt_at, lane.last_error_code) == (
            "pending",
            until,
            "rests",
        )

        owe(organization, "thing_2")

        assert tasks.claim_lane(is_slow=False) is None
        assert broken_invariants() == []

    def test_that_is_over_is_not_begun_again(self, organization, far):
        endpoint = self.endpoint_of(organization, far)
        self.open_circuit(endpoint, minutes=15)
        owe(organization, "thing_1")
        deliver()
        self.open_circuit(endpoint, seconds=-1)
        make_due(organization)

        owe(organization, "thing_2")

        # The probe is answered, and the other one sent after it.
        assert deliver() == 2
        assert WebhookLane.objects.get().last_error_code == ""

    def test_until_a_retry_is_ended_by_another_event(self, organization, far):
        self.endpoint_of(organization, far)
        far.answers = [receiver.answer("500 Oh"), receiver.ok()]
        owe(organization, "thing_1")
        assert deliver() == 1

        owe(organization, "thing_2")

        assert deliver() == 1
        assert [each.status for each in deliveries(organization)] == ["pending", "succeeded"]

    def test_until_a_retry_that_comes_after_the_circuit_is_ended_by_another_event(
        self, organization, far
    ):
        endpoint = self.endpoint_of(organization, far)
        far.answers = [receiver.answer("500 Oh"), receiver.ok()]
        owe(organization, "thing_1")
        deliver()
        retry = clock.now() + timedelta(hours=1)
        WebhookDelivery.objects.update(next_attempt_at=retry)
        until = self.open_circuit(endpoint, minutes=1)
        WebhookLane.objects.update(next_attempt_at=clock.now())
        deliver()
        assert WebhookLane.objects.get().next_attempt_at == retry

        owe(organization, "thing_2")
        deliver()

        assert WebhookLane.objects.get().next_attempt_at == until

    @pytest.mark.parametrize("ending", ["wake", "patch"])
    def test_ends_when_somebody_ends_it(self, organization, far, ending):
        endpoint = self.endpoint_of(organization, far)
        self.open_circuit(endpoint, minutes=15)
        owe(organization, "thing_1")
        deliver()
        key = {"organization_id": organization.id, "endpoint_id": endpoint.id}
        WebhookEndpoint.objects.update(circuit_open_until=None)

        if ending == "wake":
            operations.wake_endpoint(**key)
        else:
            operations.update_endpoint(
                **key, changes={"ordering": "aggregate"}, actor=TESTS, now=clock.now()
            )

        assert deliver() == 1
