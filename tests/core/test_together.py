"""Many small batches are given to their consumer at once, and are as safe as each by itself."""

from dataclasses import replace
from functools import partial

import pytest
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
    relay_and_consume,
    relayed,
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
