"""Fan-out takes the locks of the lanes that it owes something, and waits for no neighbour's."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
from django.db import connection

from apps.core.models import EventWork
from apps.webhooks.models import WebhookLane
from apps.webhooks.rules import subscriptions
from tests.support import wait_until
from tests.webhooks.factories import create_endpoint, deliver, deliveries, owe, relay

THING = "thing_1"
_WAITING = """
    SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.fixture
def endpoint(organization, far):
    made, _ = create_endpoint(organization, far.url, event_types=["thing.*"], max_in_flight=4)
    create_endpoint(organization, far.url, event_types=["customer.*"])
    relay()
    return made


def lanes_of(endpoint):
    """Return the lane on which the thing's events go, and every other that there is."""
    number = subscriptions.lane_of(subscriptions.lane_key(THING), lanes=4)
    own = WebhookLane.objects.get(endpoint=endpoint, lane=number)
    return own, WebhookLane.objects.exclude(id=own.id)


@contextmanager
def locked(lanes):
    """Have another connection hold the lanes' locks, as whoever records on them does."""
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(
                "SELECT id FROM webhooks_webhooklane WHERE id = ANY(%s) FOR UPDATE",
                [[lane.id for lane in lanes]],
            )
            assert cursor.rowcount == len(lanes)
        yield
    finally:
        other.close()


class TestFanOut:
    def test_waits_for_no_lock_of_a_neighbouring_lane(self, organization, endpoint):
        own, others = lanes_of(endpoint)
        assert len(others) == 7

        with locked(others):
            owe(organization, THING)

            [delivery] = deliveries(organization)
            assert (delivery.lane, delivery.status) == (own.lane, "pending")
            assert set(EventWork.objects.values_list("state", "lapses")) == {("done", 0)}
            own.refresh_from_db()
            assert own.state == "pending"
            # Nor does whoever sends on it.
            assert deliver() == 1

    def test_waits_for_the_lock_of_its_own_so_that_its_delivery_is_seen(
        self, organization, endpoint
    ):
        own, _ = lanes_of(endpoint)

        def act():
            try:
                owe(organization, THING)
            finally:
                connection.close()

        fanning_out = threading.Thread(target=act)
        with locked([own]):
            fanning_out.start()
            wait_until(self.is_waiting)
            assert deliveries(organization) == []
        fanning_out.join(30)

        own.refresh_from_db()
        assert (own.state, len(deliveries(organization))) == ("pending", 1)

    @staticmethod
    def is_waiting():
        with connection.cursor() as cursor:
            cursor.execute(_WAITING)
            return cursor.fetchone() is not None
