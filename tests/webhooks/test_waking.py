"""Who is told to look when a lane falls due: the workers that take it, and not the others."""

from __future__ import annotations

import pytest
from celery import current_app

from apps.core import nudging
from apps.webhooks import operations
from apps.webhooks.models import WebhookLane
from tests.support import empty_broker
from tests.webhooks.factories import create_endpoint, make_due, owe, relay


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
