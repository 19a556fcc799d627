"""Workers whose clocks are ten minutes off: they keep to the database's, and so to each other."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime

import pytest
from django.utils import timezone
from standardwebhooks import Webhook

from apps.core import clock
from apps.webhooks import operations, tasks
from apps.webhooks.models import WebhookEndpoint, WebhookLane
from tests.webhooks import receiver
from tests.webhooks.factories import create_endpoint, deliver, deliveries, make_due, owe


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("apps.webhooks.adapters.sender.ATTEMPT_SECONDS_MAX", 0.2)


@pytest.fixture
def go_wrong(monkeypatch):
    """Have this worker's clock go wrong by so many minutes."""

    def set_off(minutes):
        off = timedelta(minutes=minutes)
        monkeypatch.setattr(clock, "now", lambda: timezone.now() + off)

    return set_off


def until(instant):
    """The seconds from now, which is the database's now as well, to an instant."""
    return (instant - timezone.now()).total_seconds()


def open_circuit(organization, far):
    far.answers = [receiver.hang]
    endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
    owe(organization, *(f"thing_{number}" for number in range(8)))
    assert deliver() == 5
    endpoint.refresh_from_db()
    return endpoint


ahead_and_behind = pytest.mark.parametrize("minutes", [10, -10])


class TestCircuit:
    @ahead_and_behind
    def test_is_open_for_half_a_minute_whoever_opens_it(self, organization, far, go_wrong, minutes):
        go_wrong(minutes)

        endpoint = open_circuit(organization, far)

        assert 25 < until(endpoint.circuit_open_until) <= 30
        assert 25 < until(WebhookLane.objects.get().next_attempt_at) <= 30

    @ahead_and_behind
    def test_is_not_probed_before_its_time(self, organization, far, go_wrong, minutes):
        endpoint = open_circuit(organization, far)
        make_due(organization)
        go_wrong(minutes)

        assert deliver() == 0

        assert len(far.requests) == 5
        assert WebhookLane.objects.get().next_attempt_at == endpoint.circuit_open_until

    @ahead_and_behind
    def test_is_probed_once_it_has_run_out(self, organization, far, go_wrong, minutes):
        endpoint = open_circuit(organization, far)
        far.answers = [receiver.ok()]
        WebhookEndpoint.objects.update(circuit_open_until=timezone.now() - timedelta(seconds=1))
        make_due(organization)
        go_wrong(minutes)

        assert deliver() == 8

        endpoint.refresh_from_db()
        assert endpoint.circuit_open_until is None
        assert {each.status for each in deliveries(organization)} == {"succeeded"}

    @ahead_and_behind
    def test_has_the_others_wait_a_minute_for_a_probe(self, organization, far, go_wrong, minutes):
        endpoint = open_circuit(organization, far)
        WebhookEndpoint.objects.update(circuit_open_until=timezone.now() - timedelta(seconds=1))
        make_due(organization)
        go_wrong(minutes)

        lane = tasks.claim_lane(is_slow=False)
        owed = operations.open_lane(lane=lane, limit=20, now=clock.now())

        assert len(owed.owed) == 1
        endpoint.refresh_from_db()
        assert 55 < until(endpoint.circuit_open_until) <= 60


class TestSignature:
    @ahead_and_behind
    def test_is_of_the_time_that_receivers_go_by(self, organization, far, go_wrong, minutes):
        _, secret = create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        go_wrong(minutes)

        assert deliver() == 1

        [request] = far.requests
        # The verifier of the standard's package refuses what is five minutes off.
        Webhook(secret).verify(request.body, request.headers)


class TestRetryAfter:
    @ahead_and_behind
    def test_as_a_date_is_met_by_a_worker_that_is_off(self, organization, far, go_wrong, minutes):
        asked = format_datetime(timezone.now() + timedelta(seconds=9), usegmt=True)
        far.answers = [receiver.answer("500 Oh", headers=f"Retry-After: {asked}\r\n")]
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        go_wrong(minutes)

        deliver()

        # The first delay is 5 seconds, and what is asked is clamped to twice that.
        assert 6 < until(deliveries(organization)[0].next_attempt_at) <= 9
