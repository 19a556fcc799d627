"""Processes that die: before the nudge, and with a lease in hand."""

import pytest
from celery import current_app
from django.db import connection

from apps.core.models import EventWork, OutboxBatch
from tests.core.events_of_tests import make_due, opened, positions, publish
from tests.support import empty_broker, kill_hard, running, running_worker, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

DIES_AFTER_COMMIT = """
import os
import django

django.setup()
from apps.core import transactions
from tests.core.events_of_tests import opened, publish

# Called before the nudge, which was asked for later.
publish(opened("last words"), then=lambda: transactions.on_commit(lambda: os._exit(9)))
"""


@pytest.fixture(autouse=True)
def broker():
    empty_broker()
    yield
    empty_broker()


def sweep() -> None:
    current_app.send_task("core.sweep", queue="default")


class TestCrashAfterCommit:
    def test_before_the_nudge_leaves_the_event_to_the_sweeper(self):
        with running("-c", DIES_AFTER_COMMIT) as process:
            assert process.wait(30) == 9
        assert OutboxBatch.objects.get().state == "pending"
        assert _messages("events") == 0

        with running_worker("default", "events", concurrency=1):
            sweep()
            wait_until(lambda: OutboxBatch.objects.get().state == "done")
            wait_until(_is_consumed)

        assert positions() == [1]


class TestKilledWorker:
    def test_leaves_its_row_to_another(self):
        publish(opened())

        # The consumer cannot read on: it holds its lease until it is killed.
        with _locked("webhooks_webhookendpoint"), running_worker("events", concurrency=1) as worker:
            wait_until(lambda: EventWork.objects.filter(state="leased").exists())
            kill_hard(worker)
        held = EventWork.objects.get()
        assert (held.state, held.attempts, held.lapses) == ("leased", 1, 0)
        # Until its lease ends nobody else may touch it; then it is the first in the line.
        assert held.next_attempt_at == held.lease_until
        make_due(EventWork)

        with running_worker("default", "events", concurrency=1):
            sweep()
            wait_until(_is_consumed)

        row = EventWork.objects.get()
        assert (row.state, row.attempts, row.lapses) == ("done", 2, 0)
        assert positions() == [1]


class _locked:  # noqa: N801  (reads as an adjective)
    """Keep everybody else from reading the table."""

    def __init__(self, table):
        self.table = table

    def __enter__(self):
        self.other = connection.copy()
        self.other.set_autocommit(False)
        with self.other.cursor() as cursor:
            cursor.execute(f'LOCK TABLE "{self.table}" IN ACCESS EXCLUSIVE MODE')

    def __exit__(self, *_):
        self.other.close()


def _is_consumed() -> bool:
    return set(EventWork.objects.values_list("state", flat=True)) == {"done"}


def _messages(queue: str) -> int:
    with current_app.connection_for_read() as connection_:
        return connection_.default_channel._size(queue)
