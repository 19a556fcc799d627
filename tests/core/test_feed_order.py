"""The feed has an aggregate's events in their order, whoever of its changes began first."""

import threading

import pytest
from django.db import connection

from apps.core import outbox, queries, transactions
from apps.core.invariants import breaches
from apps.core.models import FeedHead, OutboxBatch, OutboxEvent
from tests.core.events_of_tests import ACTOR, NOW, OTHER, opened
from tests.support import race, wait_until
from tests.webhooks.waiting import is_anybody_waiting

pytestmark = pytest.mark.django_db(transaction=True)


@transactions.required
def change(sequence, then=lambda: None):
    """Lock the aggregate, for which any row will do, and publish what became of it."""
    queries.lock_feed_head(organization_id=OTHER)
    then()
    outbox.publish(opened(sequence=sequence, about="x"), actor=ACTOR, now=NOW)


def test_of_two_that_wait_for_each_other_is_that_of_their_locks():
    """Who waits for the other began before it; so did its transaction's own time."""
    FeedHead.objects.create(organization_id=OTHER)
    begun, locked = threading.Event(), threading.Event()

    @transactions.outermost
    def begin_first():
        with connection.cursor() as cursor:
            cursor.execute("SELECT now()")
        begun.set()
        assert locked.wait(30)
        change(2)

    def hold():
        locked.set()
        wait_until(is_anybody_waiting)

    @transactions.outermost
    def begin_second():
        assert begun.wait(30)
        change(1, hold)

    race(begin_first, begin_second)
    outbox.relay()

    first, second = OutboxEvent.objects.order_by("sequence")
    placed = {batch.id: batch.position for batch in OutboxBatch.objects.all()}
    assert (placed[first.batch_id], placed[second.batch_id]) == (1, 2)
    assert first.recorded_at < second.recorded_at
    assert breaches() == []
