"""Deliveries that wait for an earlier one of their aggregate, however many those are."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from apps.core import clock
from apps.webhooks import operations, queries, tasks
from apps.webhooks.models import WebhookDelivery
from tests.support import rows_read
from tests.webhooks import receiver
from tests.webhooks.factories import create_endpoint, deliver, owe, relay


@pytest.fixture
def endpoint(organization, far):
    endpoint, _ = create_endpoint(
        organization, far.url, event_types=["thing.*"], max_in_flight=1, ordering="aggregate"
    )
    relay()
    return endpoint


@pytest.fixture
def _by_indexes(endpoint):
    """As where most of the table is of others."""
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        yield
        cursor.execute("RESET enable_seqscan")


def hold_back(number):
    """Owe so many more of the one aggregate that something is owed of, due a second ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO webhooks_webhookdelivery
                   (id, organization_id, endpoint_id, event_id, event_type, aggregate_id, sequence,
                    api_version, lane_key, lane, status, attempts, attempts_made, last_outcome,
                    event_sequence, next_attempt_at)
            SELECT gen_random_uuid(), organization_id, endpoint_id, gen_random_uuid(), event_type,
                   aggregate_id, sequence + number, api_version, lane_key, lane, 'pending', 0, 0,
                   '', 0, now() - interval '1 second' + number * interval '1 microsecond'
              FROM webhooks_webhookdelivery, generate_series(1, %s) AS number
            """,
            [number],
        )
        cursor.execute("ANALYZE webhooks_webhookdelivery")


@pytest.mark.usefixtures("_by_indexes")
def test_are_not_all_read_for_the_one_that_comes_next(organization, endpoint):
    owe(organization, "thing_1")
    first = WebhookDelivery.objects.get()
    hold_back(10_000)
    WebhookDelivery.objects.filter(id=first.id).update(
        next_attempt_at=clock.now() - timedelta(minutes=1)
    )
    lane = tasks.claim_lane(is_slow=False)
    before = rows_read("webhooks_webhookdelivery")

    owed = operations.open_lane(lane=lane, limit=50, now=clock.now())

    assert [each.delivery_id for each in owed.owed] == [first.id]
    assert rows_read("webhooks_webhookdelivery") - before < 5_000


def test_hide_no_other_aggregate(organization, endpoint, far):
    """The first of them waits for its next attempt; all of these are due before the other."""
    far.answers = [receiver.answer("500 Oh"), receiver.ok()]
    owe(organization, "thing_1")
    assert deliver() == 1
    hold_back(1_100)
    owe(organization, "thing_2")
    lane = tasks.claim_lane(is_slow=False)

    assert tasks.work_lane(lane, policy=queries.get_policy()) == 1

    sent = WebhookDelivery.objects.get(aggregate_id="thing_2")
    assert sent.status == "succeeded"
    assert WebhookDelivery.objects.filter(status="pending").count() == 1_101


@pytest.mark.usefixtures("_by_indexes")
def test_keep_no_other_aggregate_waiting_that_just_fell_due(organization, endpoint):
    """The first of them can be sent, and so can what is due behind all of them."""
    owe(organization, "thing_1")
    first = WebhookDelivery.objects.get()
    hold_back(3_000)
    WebhookDelivery.objects.filter(id=first.id).update(
        next_attempt_at=clock.now() - timedelta(minutes=1)
    )
    owe(organization, "thing_2")
    other = WebhookDelivery.objects.get(aggregate_id="thing_2")
    lane = tasks.claim_lane(is_slow=False)

    owed = operations.open_lane(lane=lane, limit=50, now=clock.now())

    assert [each.delivery_id for each in owed.owed] == [first.id, other.id]
