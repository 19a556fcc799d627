"""Events that end whoever works them: they are set aside, and all others are delivered."""

from __future__ import annotations

import time
from functools import partial

import pytest

from apps.core import clock, outbox, transactions
from apps.core.models import EventWork, OutboxEvent
from apps.webhooks.models import WebhookDelivery
from tests.chaos.house import PATIENCE_SECONDS
from tests.chaos.oracles import end_leases
from tests.support import wait_until
from tests.webhooks.factories import TESTS, ThingChanged, create_endpoint

pytestmark = [pytest.mark.soak, pytest.mark.timeout(470)]

ENDS = ("fail", "die", "exhaust")
EACH = 20


@transactions.outermost
def publish(organization, *things):
    """Commit one event for each of these, an aggregate and a text, in one transaction."""
    for aggregate, text in things:
        event = ThingChanged(
            organization_id=organization.id,
            aggregate_id=aggregate,
            sequence=1,
            occurred_at=clock.now(),
            text=text,
        )
        outbox.publish(event, actor=TESTS, now=clock.now())


def ending_leases(condition, *, seconds):
    """Wait; whoever died or failed is not waited for."""
    ended_at = time.monotonic()

    def is_so():
        nonlocal ended_at
        if time.monotonic() - ended_at > 1:
            end_leases(EventWork)
            ended_at = time.monotonic()
        return condition()

    wait_until(is_so, seconds=seconds)


def test_are_set_aside_and_harm_no_other(house, organization, far):
    create_endpoint(organization, far.url(), event_types=["thing.*"])
    house.start(
        "worker", "tests/chaos/poison.py", "-q", "-A", "config", "worker", "-Q",
        "events,default", "-c", "2", "--without-gossip", "--without-mingle",
        "--without-heartbeat", role="worker", PYTHONPATH=".",
    )  # fmt: skip
    house.sender()
    house.beat()
    for end in ENDS:
        # One in the midst of a transaction, and one by itself among others.
        publish(
            organization,
            *((f"{end}_{number}", end if number == EACH // 2 else "") for number in range(EACH)),
        )
        publish(organization, (f"{end}_alone", end))
        for number in range(EACH):
            publish(organization, (f"{end}_single_{number}", ""))

    settled = EventWork.objects.filter(organization_id=organization.id)
    poison = OutboxEvent.objects.filter(data__text__in=ENDS)
    others = OutboxEvent.objects.filter(type="thing.changed").exclude(data__text__in=ENDS)

    ending_leases(
        lambda: (
            settled.filter(state="quarantined").count() == 2 * len(ENDS)
            and not settled.exclude(state__in=["done", "quarantined"]).exists()
        ),
        seconds=400,
    )

    assert poison.count() == 2 * len(ENDS)
    wait_until(partial(is_sent, organization), seconds=PATIENCE_SECONDS)
    sent = WebhookDelivery.objects.filter(organization=organization, event_type="thing.changed")
    assert set(sent.values_list("event_id", flat=True)) == set(others.values_list("id", flat=True))
    assert len(far.ids()) == len(set(far.ids())) == len(others)
    aside = settled.filter(state="quarantined")
    assert set(aside.values_list("last_error_code", flat=True)) == {"consumer_failed", "lapsed"}


def is_sent(organization):
    return not WebhookDelivery.objects.filter(organization=organization, status="pending").exists()
