"""Receivers that are slow, broken, endless, gone or dead; and the one beside them that is well."""

from __future__ import annotations

from functools import partial

import pytest

from apps.core import clock
from apps.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookLane
from tests.chaos.house import PATIENCE_SECONDS
from tests.chaos.oracles import assert_delivered, is_settled
from tests.support import wait_until
from tests.webhooks.factories import create_endpoint, publish

pytestmark = [pytest.mark.soak, pytest.mark.timeout(280)]

THINGS = [f"thing_{number}" for number in range(20)]
ODD_HEAD = "<script>alert(1)</script>\ufffd"


@pytest.fixture
def fleet(house):
    return [house.worker("events", "default"), house.sender(concurrency=16), house.beat()]


def deliveries(endpoint):
    return WebhookDelivery.objects.filter(endpoint=endpoint)


def statuses(endpoint):
    return set(deliveries(endpoint).values_list("status", flat=True))


def outcomes(endpoint):
    return set(WebhookAttempt.objects.filter(endpoint=endpoint).values_list("outcome", flat=True))


def hurry(endpoint):
    """Let the time of each retry come, and that of the circuit's probe."""
    now = clock.now()
    WebhookEndpoint.objects.filter(id=endpoint.id, circuit_open_until__gt=now).update(
        circuit_open_until=now
    )
    waiting = {"endpoint": endpoint, "next_attempt_at__gt": now}
    WebhookDelivery.objects.filter(status="pending", **waiting).update(next_attempt_at=now)
    WebhookLane.objects.filter(state="pending", **waiting).update(next_attempt_at=now)


def wait_for(condition):
    wait_until(condition, seconds=PATIENCE_SECONDS)


class TestBadReceivers:
    def test_hold_up_nobody_but_themselves(self, house, organization, far, fleet):
        made = {
            path: create_endpoint(organization, far.url(path), event_types=["thing.*"])[0]
            for path in ("hangs", "slow/3", "fails", "flaky", "gone", "moved", "endless", "odd")
        }
        well, _ = create_endpoint(organization, far.url(), event_types=["thing.*"])

        publish(organization, *THINGS)
        wait_for(lambda: deliveries(well).filter(status="succeeded").count() == len(THINGS))

        # All of this while the one that hangs has everything still to come.
        assert statuses(made["hangs"]) == {"pending"}
        assert deliveries(made["hangs"]).count() == len(THINGS)
        wait_for(lambda: statuses(made["endless"]) == {"succeeded"})
        wait_for(lambda: statuses(made["odd"]) == {"succeeded"})
        wait_for(lambda: statuses(made["gone"]) == {"paused"})
        wait_for(lambda: outcomes(made["fails"]) == {"server_error"})
        wait_for(lambda: outcomes(made["moved"]) == {"redirected"})

        heads = WebhookAttempt.objects.filter(endpoint=made["endless"])
        assert {len(one.answer_head) for one in heads} == {2048}
        [odd] = set(
            WebhookAttempt.objects.filter(endpoint=made["odd"]).values_list(
                "answer_head", flat=True
            )
        )
        assert odd == ODD_HEAD
        gone = WebhookEndpoint.objects.get(id=made["gone"].id)
        assert (gone.status, gone.disabled_reason) == ("disabled", "gone")
        assert far.received("followed") == []
        # The second time it says 200, and is sent the same.
        wait_for(lambda: hurry(made["flaky"]) or statuses(made["flaky"]) == {"succeeded"})
        bodies = {}
        for one in far.received("flaky"):
            bodies.setdefault(one.id, []).append(one.body)
        assert all(len(set(each)) == 1 and len(each) >= 2 for each in bodies.values())
        assert len(bodies) == len(THINGS)


class TestDeadReceiver:
    def test_gets_everything_once_it_is_back(self, house, organization, far, fleet):
        endpoint, _ = create_endpoint(organization, far.url(), event_types=["thing.*"])
        publish(organization, *THINGS[:5])
        wait_for(partial(is_settled, organization))
        far.die()
        publish(organization, *(f"later_{number}" for number in range(5)))
        wait_for(
            lambda: "connect_error" in WebhookAttempt.objects.values_list("outcome", flat=True)
        )

        far.come_back()

        wait_for(lambda: hurry(endpoint) or is_settled(organization))
        assert_delivered(organization, far)
