"""What waits for an earlier event is woken by whoever works that one, whoever is first."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock, outbox, queries, statements, transactions, work, working
from apps.core.ids import first_id
from apps.core.models import EventWork, OutboxEvent
from apps.core.outbox import _following
from apps.core.outbox._consuming import CONSUME_KIND, Consumer
from tests.core.events_of_tests import ORGANIZATION, opened, publish, states
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

# What a test holds while others are to wait at a place in the midst of their transaction.
GATE = 1701


@pytest.fixture(autouse=True)
def worked(monkeypatch):
    """The codes of the events that an ordered consumer was given, in order."""
    codes = []

    def keep(_organization_id, events):
        codes.extend(event.data["code"] for event in events)

    monkeypatch.setattr(outbox._consuming, "_consumers", {"recorder": Consumer(keep, ordered=True)})
    return codes


@pytest.fixture
def gate():
    """Have who writes such a row of work wait in Postgres, until the block ends."""

    @contextmanager
    def close(condition):
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                CREATE OR REPLACE FUNCTION wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN NEW; END $$;
                CREATE TRIGGER gate BEFORE UPDATE ON core_event_work
                   FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION wait_at_the_gate();
                SELECT pg_advisory_lock({GATE});
                """
            )
            try:
                yield
            finally:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [GATE])

    yield close
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER IF EXISTS gate ON core_event_work")
        cursor.execute("DROP FUNCTION IF EXISTS wait_at_the_gate")


def relayed(*events):
    publish(*events)
    outbox.relay()


def lease():
    """Lease the one row that is due, as a worker does."""
    [row] = work.claim_due(EventWork, limit=1, lease_seconds=60)
    return row


def two_in_order():
    """Lease the rows of two events of one aggregate, the later of which has waited for an hour."""
    relayed(opened("a", sequence=1, about="x"))
    first = lease()
    relayed(opened("b", sequence=2, about="x"))
    EventWork.objects.exclude(id=first.id).update(id=first_id(clock.now() - timedelta(hours=1)))
    return first, lease()


def alone(row):
    working.work_row(outbox.CONSUMING, row)


def together(row):
    """As a claim of several rows is; it may be of one."""
    assert outbox.CONSUMING.together([row]).left == []


@pytest.fixture(params=[alone, together])
def look(request):
    """How the later of two is looked at, which is to wait."""
    return request.param


def at_work(row, do=alone):
    """Work the row in a thread with a connection of its own."""

    def run():
        try:
            do(row)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@contextmanager
def before(statement, do):
    """Have something done by others just before this connection first runs the statement."""
    left = [do]

    def run(execute, sql, params, many, context):
        if sql == statement and left:
            left.pop()()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(run):
        yield
    assert not left


def waiting_in_postgres():
    """Return how many of the others on this database wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        [(number,)] = cursor.fetchall()
    return number


def test_is_woken_once_the_earlier_one_was_worked(worked, look):
    first, second = two_in_order()
    look(second)
    row = EventWork.objects.get(id=second.id)
    assert (row.state, row.last_error_code) == ("pending", "waits_for_earlier")
    assert outbox.consume() == 0

    working.work_row(outbox.CONSUMING, first)

    assert outbox.consume() == 1
    assert worked == ["a", "b"]
    assert states() == ["done", "done"]


def test_is_woken_though_the_earlier_one_is_worked_before_it_is_seen_to_wait(worked, gate, look):
    """It has looked and found the other one open; what says that it waits is not committed."""
    first, second = two_in_order()
    with gate("NEW.last_error_code = 'waits_for_earlier'"):
        looking = at_work(second, look)
        wait_until(lambda: waiting_in_postgres() == 1)
        working_first = at_work(first)
        wait_until(lambda: waiting_in_postgres() == 2 or not working_first.is_alive())
    looking.join()
    working_first.join()

    assert worked == ["a"]
    assert outbox.consume() == 1
    assert worked == ["a", "b"]


def test_is_woken_though_a_later_one_that_waits_for_it_is_just_looked_at(worked, gate, look):
    """Who looks at that one has it locked, and whoever wakes waits for nobody in the midst."""
    first, second = two_in_order()
    look(second)
    relayed(opened("c", sequence=3, about="x"))
    third = lease()
    with gate("NEW.last_error_code = 'waits_for_earlier' AND OLD.last_error_code = ''"):
        looking = at_work(third, look)
        wait_until(lambda: waiting_in_postgres() == 1)
        working_first = at_work(first)
        wait_until(lambda: waiting_in_postgres() == 2 or not working_first.is_alive())
        # It is over for all others: what is woken later takes nothing from them.
        assert EventWork.objects.get(id=first.id).state == "done"
    looking.join()
    working_first.join()

    outbox.consume()

    assert worked[:2] == ["a", "b"]


def test_is_looked_at_again_soon_where_the_earlier_one_is_just_being_worked(worked, gate, look):
    """Who works that one has looked for others to wake already, and has not committed."""
    first, second = two_in_order()
    with gate("NEW.state = 'done'"):
        working_first = at_work(first)
        wait_until(lambda: waiting_in_postgres() == 1)

        look(second)

        delay = EventWork.objects.get(id=second.id).next_attempt_at - clock.database_now()
    working_first.join()

    assert delay <= timedelta(seconds=_following._WAIT_SECONDS)
    wait_until(outbox.consume)
    assert worked == ["a", "b"]


def test_is_looked_at_again_soon_where_the_earlier_one_was_worked_since(worked, monkeypatch, look):
    """Its row is open still, for what else its batch owes, and whoever has it woke nobody."""
    monkeypatch.setattr(outbox._consuming, "_EVENTS_MAX", 1)
    relayed(opened("a", sequence=1, about="x"), opened("c", sequence=1, about="y"))
    first = lease()
    relayed(opened("b", sequence=2, about="x"))
    EventWork.objects.exclude(id=first.id).update(id=first_id(clock.now() - timedelta(hours=1)))
    second = lease()

    with before(queries._OPEN_WORK, lambda: at_work(first).join()):
        look(second)

    # As it is found it waits for nothing any more, and nobody is left to say so.
    assert worked == ["a"]
    row = EventWork.objects.get(id=second.id)
    assert (row.state, row.last_error_code) == ("pending", "waits_for_earlier")
    assert row.next_attempt_at - clock.database_now() <= timedelta(seconds=_following._WAIT_SECONDS)


def test_is_looked_at_again_with_others_as_late_as_who_has_waited_longest(worked):
    """Else what is new all the time would have all that wait looked at again all the time."""
    _, second = two_in_order()
    relayed(opened("c", sequence=3, about="x"))
    third = lease()
    before = clock.database_now()

    assert outbox.CONSUMING.together([second, third]).put_off == 2

    again = EventWork.objects.filter(last_error_code="waits_for_earlier")
    due = set(again.values_list("next_attempt_at", flat=True))
    assert len(due) == 1
    assert due.pop() >= before + timedelta(seconds=_following._WAIT_SECONDS_MAX)


class TestWhoWorksAnEvent:
    """What it costs to see whether anything waits."""

    def wake(self, event):
        """Wake what waits for an event; return the statements that this took."""
        with CaptureQueriesContext(connection) as asked:
            transactions.outermost(_following.wake_followers)(
                consumer="recorder", events=[event], kind=CONSUME_KIND
            )
        return [each["sql"] for each in asked if each["sql"] not in {"BEGIN", "COMMIT"}]

    def test_asks_once_by_what_is_prepared_where_nothing_waits(self):
        relayed(opened("a", sequence=1, about="x"))
        event = OutboxEvent.objects.get()

        for _ in range(3):
            assert self.wake(event) == [_following._ANYTHING_WAITS]

        text = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %(like)s"
        assert statements.run(text, {"like": "%SELECT TRUE FROM core_event_work%"}) == [(1,)]

    def test_asks_twice_more_where_something_waits(self):
        _, second = two_in_order()
        working.work_row(outbox.CONSUMING, second)

        first, _, last = self.wake(OutboxEvent.objects.get(sequence=1))

        assert first == _following._ANYTHING_WAITS
        assert "UPDATE core_event_work" in last
        assert EventWork.objects.get(id=second.id).next_attempt_at <= clock.database_now()

    def test_looks_at_no_event_where_another_consumer_waits(self):
        _, second = two_in_order()
        working.work_row(outbox.CONSUMING, second)
        EventWork.objects.filter(id=second.id).update(consumer="another")

        assert len(self.wake(OutboxEvent.objects.get(sequence=1))) == 1

    def test_asks_nothing_about_what_nothing_follows(self):
        event = OutboxEvent(
            organization_id=ORGANIZATION, aggregate_type="journal_entry", sequence=1
        )

        assert self.wake(event) == []
