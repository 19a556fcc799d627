"""What a queue's row says, whichever of its senders and workers writes, by the database's clock."""

from datetime import timedelta

import pytest

from apps.core import clock, heartbeats
from apps.core.models import QueueHeartbeat
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def start():
    """A time long past, so that no beat of a test is taken for an answer to what is sent later."""
    return clock.database_now() - timedelta(hours=1)


def send(*times, queues=("money",), gap=30):
    for at in times:
        heartbeats.record_sent(queues=queues, at=at, gap_seconds=gap)


def sent_each(start, *seconds, **more):
    send(*(start + timedelta(seconds=each) for each in seconds), **more)


def silent(seconds=60, queues=("money",)):
    return heartbeats.list_silent(queues=queues, seconds=seconds)


class TestSilence:
    def test_begins_with_a_minute_of_heartbeats_that_nobody_ran(self, start):
        sent_each(start, 0, 15, 30, 45)
        assert silent() == []

        sent_each(start, 60)

        assert silent() == ["money"]

    def test_ends_with_a_beat(self, start):
        sent_each(start, 0, 15, 30, 45, 60)

        heartbeats.record_beat(queue="money", worker="worker@here")

        assert silent() == []
        row = QueueHeartbeat.objects.get()
        assert (row.unanswered_since, row.worker) == (None, "worker@here")
        assert row.beaten_at > start

    def test_is_not_what_a_sender_or_a_broker_away_leaves_behind(self, start):
        # Ten minutes in which nothing was sent, and nothing could be run.
        sent_each(start, 0, 15, 615, 630, 645, 660)
        assert silent() == []

        sent_each(start, 675)

        assert silent() == ["money"]

    def test_is_not_the_age_of_the_last_heartbeat(self, start):
        sent_each(start, 0)

        assert silent() == []

    def test_is_each_queue_s_own(self, start):
        sent_each(start, 0, 15, 30, 45, 60, queues=("money", "risk"))
        heartbeats.record_beat(queue="risk", worker="worker@here")

        assert silent(queues=("money", "risk", "events")) == ["money"]
        assert silent(queues=("risk",)) == []


class TestBeat:
    def test_that_comes_before_its_sending_is_recorded_answers_it(self):
        at = clock.database_now()
        heartbeats.record_beat(queue="money", worker="worker@here")

        send(at)

        assert QueueHeartbeat.objects.get().unanswered_since is None

    def test_answers_nothing_that_is_sent_later(self):
        heartbeats.record_beat(queue="money", worker="worker@here")
        at = clock.database_now()

        send(at)

        assert QueueHeartbeat.objects.get().unanswered_since == at

    def test_run_twice_changes_nothing_more(self, start):
        sent_each(start, 0, 15)

        for _ in range(2):
            heartbeats.record_beat(queue="money", worker="worker@here")

        row = QueueHeartbeat.objects.get()
        assert (row.sent_at, row.unanswered_since) == (start + timedelta(seconds=15), None)


class TestTwoSupervisors:
    def test_make_one_series(self, start):
        # Neither of them alone sends often enough.
        for second in (0, 25, 50):
            sent_each(start, second)
            sent_each(start, second + 12)

        assert silent() == ["money"]

    def test_that_record_out_of_order_do_not_turn_the_time_back(self, start):
        sent_each(start, 15, 0)

        row = QueueHeartbeat.objects.get()
        assert row.sent_at == start + timedelta(seconds=15)

    def test_at_once_leave_one_row_a_queue(self, start):
        queues = ("money", "risk", "events")

        race(
            *(lambda: send(start, queues=queues) for _ in range(4)),
            *(lambda: send(start, queues=queues[::-1]) for _ in range(4)),
        )

        assert QueueHeartbeat.objects.filter(sent_at=start).count() == 3
