"""Many small batches are given to their consumer at once, and are as safe as each by itself."""

from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from uuid import UUID

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import counters, outbox, work, working
from apps.core.models import EventWork, FeedHead
from tests.core.events_of_tests import (
    ORGANIZATION,
    OTHER,
    end_delays,
    make_due,
    opened,
    publish,
    relay_and_consume,
    states,
)
from tests.core.test_outbox import Recorder
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def recorder(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(outbox._consuming, "_consumers", {"recorder": outbox.Consumer(recorder)})
    return recorder


@pytest.fixture
def ordered(recorder):
    outbox.register_consumer(name="recorder", handler=recorder, ordered=True)
    return recorder


def relayed(*batches):
    for batch in batches:
        publish(*batch)
    outbox.relay()


def counted_consuming():
    """Return how many rows of consumers were worked, by what came of them."""
    found = counters.read()
    return {
        outcome: found[series]
        for outcome in ("done", "put_off", "lost", "pending")
        if (series := f'kassa_work_seconds_count{{kind="core.consume",outcome="{outcome}"}}')
        in found
    }


class TestTogether:
    def test_come_in_the_order_of_the_feed_in_one_transaction(self, recorder):
        relayed(*([opened(str(n))] for n in range(60)))

        with CaptureQueriesContext(connection) as queries:
            outbox.consume()

        assert recorder.batches == [[str(n) for n in range(60)]]
        assert set(states()) == {"done"}
        # The claim, and all of the rest: far less than one each.
        assert len(queries) < 15

    def test_are_of_one_organization_and_one_consumer(self, recorder):
        other = Recorder()
        outbox.register_consumer(name="other", handler=other)
        relayed([opened("a")], [opened("b", organization_id=OTHER)], [opened("c")])

        outbox.consume()

        assert sorted(recorder.batches) == sorted(other.batches) == [["a", "c"], ["b"]]

    def test_are_not_more_than_a_portion(self, recorder, monkeypatch):
        monkeypatch.setattr(outbox._consuming, "_EVENTS_MAX", 4)
        relayed(*([opened(f"{n}a"), opened(f"{n}b")] for n in range(5)))

        relay_and_consume()

        assert recorder.batches[0] == ["0a", "0b", "1a", "1b"]
        assert sorted(recorder.codes) == sorted(f"{n}{at}" for n in range(5) for at in "ab")

    def test_leave_one_that_is_larger_to_its_portions(self, recorder, monkeypatch):
        monkeypatch.setattr(outbox._consuming, "_EVENTS_MAX", 3)
        relayed([opened("a")], [opened(str(n)) for n in range(5)], [opened("b")])

        relay_and_consume()

        assert sorted(recorder.batches) == [["0", "1", "2"], ["3", "4"], ["a"], ["b"]]

    def test_suffer_no_harm_by_a_poison_one_among_them(self, recorder):
        recorder.poison = {"13"}
        relayed(*([opened(str(n))] for n in range(30)))

        outbox.consume()

        assert sorted(recorder.codes, key=int) == [str(n) for n in range(30) if n != 13]
        assert sorted(states()) == ["done"] * 29 + ["pending"]
        # Its effect and done are one transaction: what was undone with the group came once.
        assert FeedHead.objects.exclude(organization_id=ORGANIZATION).count() == 29

    def test_are_not_tried_together_again_with_what_failed(self, recorder):
        recorder.poison = {"a"}
        relayed([opened("a")])
        outbox.consume()
        make_due(EventWork)
        relayed([opened("b")], [opened("c")])

        outbox.consume()

        assert recorder.batches == [["b", "c"]]

    def test_are_none_of_a_batch_that_failed_as_a_whole(self, recorder):
        given = []

        def count(organization_id, events):
            given.append(len(events))
            recorder(organization_id, events)

        outbox.register_consumer(name="recorder", handler=count)
        recorder.poison = {"3"}
        relayed([opened(str(n)) for n in range(6)])

        for _ in range(4):
            outbox.consume()
            make_due(EventWork)

        assert sorted(recorder.codes) == [str(n) for n in range(6) if n != 3]
        # Any of them may be the poison: all of them were tried twice, and then each for itself.
        assert given[:2] == [6, 6]
        assert set(given[2:]) == {1}

    def test_leave_alone_what_another_worker_took_over(self, recorder):
        relayed([opened("a")], [opened("b")])
        slow = work.claim_due(EventWork, limit=2, lease_seconds=60)
        make_due(EventWork)
        [taken] = work.claim_due(EventWork, limit=1, lease_seconds=60)

        outbox.CONSUMING.together(slow)

        assert EventWork.objects.get(id=taken.id).lease_token == taken.lease_token
        assert len(recorder.codes) == 1
        assert sorted(states()) == ["done", "leased"]

    def test_by_many_workers_are_given_once(self, recorder):
        relayed(*([opened(str(n))] for n in range(200)))

        race(*[partial(outbox.consume, limit=30)] * 4)
        relay_and_consume()

        assert sorted(map(int, recorder.codes)) == list(range(200))


class TestOrderTogether:
    def test_is_kept_within_the_group(self, ordered):
        relayed(*([opened(str(n), sequence=n, about="x")] for n in range(1, 21)))

        outbox.consume()

        assert ordered.batches == [[str(n) for n in range(1, 21)]]

    def test_holds_back_what_waits_and_what_is_after_it(self, ordered):
        relayed([opened("x1", sequence=1, about="x")])
        [first] = work.claim_due(EventWork, limit=1, lease_seconds=60)
        relayed(
            [opened("y1", sequence=1, about="y")],
            [opened("x2", sequence=2, about="x"), opened("y2", sequence=2, about="y")],
            [opened("x3", sequence=3, about="x")],
            [opened("y3", sequence=3, about="y")],
            [opened("z1", sequence=1, about="z")],
        )

        outbox.consume()
        assert ordered.codes[:2] == ["y1", "z1"]
        assert not {"x2", "x3"} & set(ordered.codes)
        working.work_row(outbox.CONSUMING, first)
        for _ in range(4):
            end_delays(EventWork)
            relay_and_consume()

        for about in "xyz":
            mine = [code for code in ordered.codes if code[0] == about]
            assert mine == sorted(mine)
        assert sorted(ordered.codes) == ["x1", "x2", "x3", "y1", "y2", "y3", "z1"]

    def test_waits_for_one_that_another_has_in_few_statements(self, ordered):
        relayed([opened("x1", sequence=1, about="x")])
        [first] = work.claim_due(EventWork, limit=1, lease_seconds=60)
        relayed(*([opened(f"x{n}", sequence=n, about="x")] for n in range(2, 62)))

        with CaptureQueriesContext(connection) as queries:
            outbox.consume()

        # Not so many for each of the sixty that were looked at.
        assert len(queries) < 20
        assert set(states()) == {"leased", "pending"}
        assert set(EventWork.objects.values_list("attempts", "last_error_code")) == {
            (1, ""),
            (0, "waits_for_earlier"),
        }
        working.work_row(outbox.CONSUMING, first)
        outbox.consume()
        assert ordered.batches == [["x1"], [f"x{n}" for n in range(2, 62)]]

    def test_of_those_that_wait_none_is_counted_as_done(self, ordered, metrics_folder):
        relayed([opened("x1", sequence=1, about="x")])
        [first] = work.claim_due(EventWork, limit=1, lease_seconds=60)
        relayed(
            [opened("x2", sequence=2, about="x")],
            [opened("x3", sequence=3, about="x")],
            [opened("y1", sequence=1, about="y")],
        )

        outbox.consume()
        assert counted_consuming() == {"done": 1.0, "put_off": 2.0}
        working.work_row(outbox.CONSUMING, first)
        outbox.consume()

        assert set(states()) == {"done"}
        assert counted_consuming() == {"done": 4.0, "put_off": 2.0}

    def test_of_those_that_another_worker_took_over_none_is_counted_as_done(
        self, ordered, metrics_folder
    ):
        relayed(*([opened(code)] for code in "abc"))

        def lose(claimed):
            EventWork.objects.filter(id=claimed[0].id).update(lease_token=claimed[1].id)
            return outbox.CONSUMING.together(claimed)

        working.work_due(replace(outbox.CONSUMING, together=lose))

        assert counted_consuming() == {"done": 2.0, "lost": 1.0}

    def test_is_kept_among_what_was_set_apart(self, ordered):
        relayed([opened("x1", sequence=1, about="x")])
        [first] = work.claim_due(EventWork, limit=1, lease_seconds=60)
        relayed(
            *(
                [opened(f"x{n}", sequence=n, about="x"), opened(f"y{n}", sequence=n, about=f"y{n}")]
                for n in range(2, 32)
            )
        )
        outbox.consume()
        assert sorted(ordered.codes) == sorted(f"y{n}" for n in range(2, 32))

        with CaptureQueriesContext(connection) as queries:
            outbox.consume()
        assert len(queries) < 20
        working.work_row(outbox.CONSUMING, first)
        outbox.consume()

        assert ordered.batches[-2:] == [["x1"], [f"x{n}" for n in range(2, 32)]]
        assert set(states()) == {"done"}

    def test_is_kept_though_what_was_split_off_a_batch_is_worked_alone(self, ordered):
        ordered.poison = {"x2"}
        relayed([opened(f"x{n}", sequence=n, about="x") for n in range(1, 4)])
        relayed([opened("x4", sequence=4, about="x")])
        for _ in range(3):
            relay_and_consume()
            make_due(EventWork)
        assert ordered.batches == [["x1"]]

        ordered.poison = set()
        for _ in range(3):
            make_due(EventWork)
            relay_and_consume()

        assert ordered.codes == ["x1", "x2", "x3", "x4"]

    def test_waits_for_a_batch_too_large_for_the_group(self, ordered, monkeypatch):
        monkeypatch.setattr(outbox._consuming, "_EVENTS_MAX", 3)
        relayed(
            [opened(f"x{n}", sequence=n, about="x") for n in range(1, 6)],
            [opened("x6", sequence=6, about="x")],
            [opened("x7", sequence=7, about="x")],
        )

        for _ in range(4):
            relay_and_consume()
            end_delays(EventWork)

        assert ordered.codes == [f"x{n}" for n in range(1, 8)]

    def test_is_kept_by_four_workers(self, ordered):
        for sequence in range(1, 41):
            relayed(*([opened(f"{n}:{sequence}", sequence=sequence, about=n)] for n in "abcd"))

        def work_all():
            while EventWork.objects.exclude(state="done").exists():
                if not outbox.consume(limit=9):
                    end_delays(EventWork)

        race(*[work_all] * 4)

        worked = [code.split(":") for code in ordered.codes]
        for n in "abcd":
            assert [int(sequence) for about, sequence in worked if about == n] == list(range(1, 41))


@dataclass
class SlowRecorder:
    """
    A consumer that reaches the soft limit where it is given too many events, or a slow one.

    What it was given is in `given`: how many events, and the organization.
    """

    now: float = 1000.0
    at_once_max: int = 10
    slow: set[str] = field(default_factory=set)
    given: list[tuple[int, UUID]] = field(default_factory=list)

    def __call__(self, organization_id, events):
        self.given.append((len(events), organization_id))
        if len(events) > self.at_once_max or self.slow & {event.data["code"] for event in events}:
            self.now += outbox.HARD_SECONDS - 5
            raise SoftTimeLimitExceeded
        self.now += 0.3

    def monotonic(self):
        return self.now


def run_often():
    """Run the task more often than the work of these tests needs."""
    for _ in range(9):
        working.run(outbox.CONSUMING)


class TestTooSlow:
    @pytest.fixture
    def slow(self, monkeypatch):
        slow = SlowRecorder()
        monkeypatch.setattr(outbox._consuming, "_consumers", {"slow": outbox.Consumer(slow)})
        monkeypatch.setattr(working, "time", SimpleNamespace(monotonic=slow.monotonic))
        return slow

    def test_together_are_worked_one_by_one_and_others_have_their_turn(self, slow):
        relayed(*([opened(str(n))] for n in range(60)))
        relayed([opened("theirs", organization_id=OTHER)])

        working.run(outbox.CONSUMING)

        assert slow.given == [(60, ORGANIZATION)]
        columns = ("organization_id", "state", "attempts", "last_error_code")
        assert set(EventWork.objects.values_list(*columns)) == {
            (ORGANIZATION, "pending", 1, work.FAILED_TOGETHER),
            (OTHER, "pending", 0, ""),
        }
        working.run(outbox.CONSUMING)
        assert slow.given[1:3] == [(1, OTHER), (1, ORGANIZATION)]
        run_often()
        assert set(EventWork.objects.values_list("state", "last_error_code")) == {("done", "")}
        assert slow.given[1:] == [(1, OTHER)] + [(1, ORGANIZATION)] * 60

    def test_alone_is_the_only_one_that_is_set_aside(self, slow):
        slow.slow = {"13"}
        relayed(*([opened(str(n))] for n in range(30)))
        relayed([opened("theirs", organization_id=OTHER)])

        for _ in range(work.ATTEMPTS_MAX + 1):
            make_due(EventWork)
            working.run(outbox.CONSUMING)

        left = EventWork.objects.exclude(state="done").get()
        assert (left.state, left.attempts, left.last_error_code) == (
            "quarantined",
            work.ATTEMPTS_MAX,
            "consumer_failed",
        )
        assert EventWork.objects.filter(state="done").count() == 30

    def test_in_a_large_batch_are_given_in_smaller_portions(self, slow):
        relayed([opened(f"a{n}") for n in range(12)], [opened(f"b{n}") for n in range(12)])

        for _ in range(20):
            make_due(EventWork)
            working.run(outbox.CONSUMING)

        assert set(states()) == {"done"}
        assert slow.given[0] == (24, ORGANIZATION)

    def test_with_a_backlog_hide_nobody(self, slow):
        slow.at_once_max = 1
        relayed(*([opened(str(n))] for n in range(40)))
        relayed([opened("theirs", organization_id=OTHER)])
        consuming = replace(outbox.CONSUMING, batch=8)

        # The backlog's next ones are untried and older, and too slow again.
        working.run(consuming)
        working.run(consuming)

        assert [each for each in slow.given if each[1] == OTHER] == [(1, OTHER)]
        assert EventWork.objects.filter(organization_id=OTHER).get().state == "done"

    def test_hide_no_other_consumer_of_the_organization(self, slow):
        slow.at_once_max = 1
        quick = Recorder()
        outbox.register_consumer(name="quick", handler=quick)
        for n in range(12):
            relayed([opened(str(n))])
        consuming = replace(outbox.CONSUMING, batch=8)

        working.run(consuming)
        assert quick.codes == []
        working.run(consuming)

        assert quick.batches == [["4", "5", "6", "7"]]
        assert not EventWork.objects.filter(consumer="slow", state="done").exists()

    def test_one_by_one_after_a_fault_are_not_tried_together_again(self, slow):
        slow.at_once_max = 100
        relayed(*([opened(str(n))] for n in range(60)))

        def conflict(organization_id, events):
            slow(organization_id, events)
            if len(events) > 1:
                raise ZeroDivisionError

        outbox.register_consumer(name="slow", handler=conflict)

        # There is time for some of them, one by one, and not for all.
        working.run(outbox.CONSUMING)
        assert set(states()) == {"done", "pending"}
        run_often()

        assert slow.given == [(60, ORGANIZATION)] + [(1, ORGANIZATION)] * 60
