"""A kind of work is a row, a claim and an operation; all else it inherits."""

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from celery import current_app
from django.db import connection
from structlog.testing import capture_logs

from apps.core import (
    clock,
    context,
    counters,
    invariants,
    metrics,
    operations,
    stuck,
    tasks,
    work,
    working,
)
from apps.core.actors import Actor
from apps.core.errors import StateConflict, Unavailable
from apps.core.ids import new_id, new_ids
from apps.core.models import AuditEvent
from tests.core import errands
from tests.core.errands import ERRANDS, KIND, TASK, Errand, run_errands
from tests.core.events_of_tests import NOW, ORGANIZATION, OTHER, make_due
from tests.support import empty_broker, race, running

pytestmark = pytest.mark.django_db(transaction=True)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ANN = Actor.staff(new_id())


@pytest.fixture(autouse=True)
def _installed(transactional_db):
    empty_broker()
    with errands.installed():
        yield
    empty_broker()


def add(*names, organization_id=ORGANIZATION):
    return Errand.objects.bulk_create(
        Errand(id=id_, organization_id=organization_id, name=name)
        for id_, name in zip(new_ids(len(names)), names, strict=True)
    )


def states():
    return Counter(Errand.objects.values_list("state", flat=True))


def messages(queue="default"):
    with current_app.connection_for_read() as connection_:
        return connection_.default_channel._size(queue)


class TestRun:
    def test_works_what_is_due_until_nothing_is(self):
        add(*"abc")

        assert (run_errands(), run_errands()) == (3, 0)

        rows = Errand.objects.values_list("state", "times_done", "attempts", "lease_token")
        assert list(rows) == [("done", 1, 1, None)] * 3

    def test_that_finds_nothing_due_says_so(self):
        add("a")

        with capture_logs() as said:
            run_errands()
            assert said == []
            run_errands()

        assert said == [{"event": "work_not_due", "kind": KIND, "log_level": "info"}]

    def test_by_many_workers_does_each_once(self):
        add(*[str(n) for n in range(60)])

        race(*[run_errands] * 5)

        assert set(Errand.objects.values_list("times_done", "state")) == {(1, "done")}

    def test_claims_again_until_all_is_worked(self):
        add(*"abcde")

        assert working.run(replace(ERRANDS, batch=2)) == 5

    def test_takes_what_the_kind_claims_itself(self):
        add("a")
        add("b", organization_id=OTHER)

        def claim():
            ids = Errand.objects.filter(organization_id=OTHER).values_list("id", flat=True)
            return work.claim_due(Errand, limit=5, lease_seconds=60, only_ids=list(ids))

        assert working.run(replace(ERRANDS, claim=claim)) == 1
        assert Errand.objects.get(state="done").name == "b"

    def test_ends_in_time_and_tells_another_worker_to_go_on(self):
        add(*"abc")

        assert working.run(replace(ERRANDS, seconds_max=0)) == 3

        assert states() == {"done": 1, "pending": 2}
        assert messages() == 1
        # What was claimed and not begun is due, and nothing was held against it.
        assert set(Errand.objects.values_list("state", "attempts", "lapses")) == {
            ("done", 1, 0),
            ("pending", 0, 0),
        }
        assert working.run(ERRANDS) == 2

    def test_leases_a_row_for_longer_than_its_work_can_take(self):
        add("a")
        seen = []

        def perform(errand):
            seen.append((errand.lease_until - clock.database_now()).total_seconds())

        working.run(replace(ERRANDS, perform=perform, hard_seconds=20))

        # Fifteen seconds more, of which the claim itself has taken some.
        assert 20 < seen[0] <= 35

    def test_begins_no_row_whose_lease_may_be_over(self):
        add(*"abc")

        assert working.work_due(replace(ERRANDS, hard_seconds=0)) == 3

        assert states() == {"done": 1, "pending": 2}

    def test_takes_turns_between_organizations(self):
        add(*"abc")
        add(*"xy", organization_id=OTHER)
        begun = []

        working.work_due(replace(ERRANDS, perform=lambda errand: begun.append(errand.name)))

        assert begun == ["a", "x", "b", "y", "c"]

    def test_begins_last_what_may_kill_its_worker(self):
        add(*"abc")
        add("x", organization_id=OTHER)
        Errand.objects.filter(name="x").update(lapses=1)
        begun = []

        working.work_due(replace(ERRANDS, perform=lambda errand: begun.append(errand.name)))

        assert begun == ["a", "b", "c", "x"]

    def test_begins_with_those_it_had_no_time_for(self):
        add(*"abc")
        add("x", organization_id=OTHER)
        begun = []
        late = replace(ERRANDS, perform=lambda errand: begun.append(errand.name), seconds_max=0)

        for _ in range(4):
            working.work_due(late)

        assert begun == ["a", "x", "b", "c"]

    def test_gives_back_no_row_that_another_worker_has(self):
        add(*"ab")
        taken = []

        def lose(_errand):
            Errand.objects.filter(name="b").update(next_attempt_at=NOW)
            taken.extend(work.claim_due(Errand, limit=1, lease_seconds=60))

        working.work_due(replace(ERRANDS, perform=lose, seconds_max=0))

        [other] = taken
        kept = Errand.objects.get(name="b")
        assert (kept.state, kept.lease_token) == ("leased", other.lease_token)
        assert Errand.objects.get(name="a").state == "done"


class TestRow:
    def test_has_its_effect_and_the_note_that_it_is_done_together(self):
        add("a")
        errands.faults["a"] = ZeroDivisionError()

        run_errands()

        row = Errand.objects.get()
        assert (row.state, row.times_done, row.last_error_code) == (
            "pending",
            0,
            "ZeroDivisionError",
        )

    def test_is_performed_with_no_transaction_open_and_recorded_in_one(self):
        add("a")
        seen = []

        def perform(errand):
            seen.append(connection.in_atomic_block)
            return lambda _row: seen.append(connection.in_atomic_block)

        working.run(replace(ERRANDS, perform=perform))

        assert (seen, states()) == ([False, True], {"done": 1})

    def test_is_done_when_nothing_else_is_said(self):
        add("a")

        working.run(replace(ERRANDS, perform=lambda _errand: None))

        assert states() == {"done": 1}

    @pytest.mark.parametrize(
        ("record", "state", "error_code"),
        [
            (partial(work.mark_retry, error_code="away", delay_seconds=60), "pending", "away"),
            (partial(work.mark_failed, error_code="no"), "failed", "no"),
        ],
    )
    def test_is_what_the_operation_says(self, record, state, error_code):
        add("a")

        working.run(replace(ERRANDS, perform=lambda _errand: record))

        row = Errand.objects.get()
        assert (row.state, row.last_error_code) == (state, error_code)

    def test_is_left_alone_where_the_operation_recorded_it(self):
        add("a")

        def perform(errand):
            Errand.objects.update(state="paused", lease_token=None)
            return working.recorded

        working.run(replace(ERRANDS, perform=perform))

        assert states() == {"paused": 1}

    def test_is_left_alone_where_another_worker_took_it_over(self):
        add("a")
        recorded = []

        def perform(errand):
            make_due(Errand)
            work.claim_due(Errand, limit=1, lease_seconds=60)
            return recorded.append

        working.work_due(replace(ERRANDS, perform=perform))

        assert (recorded, states()) == ([], {"leased": 1})

    def test_of_work_that_failed_is_put_off_by_the_kinds_own_rule(self):
        add("a")
        errands.faults["a"] = Unavailable("away")

        def put_off(row, fault):
            work.mark_retry(row, error_code=str(fault), delay_seconds=3600)

        working.run(replace(ERRANDS, put_off=put_off))

        assert Errand.objects.get().last_error_code == "away"


def counted(part="count"):
    """Return of `kassa_work_seconds` this kind's value for each outcome."""
    prefix, end = f'kassa_work_seconds_{part}{{kind="{KIND}",outcome="', '"}'
    found = counters.read().items()
    return {
        key.removeprefix(prefix).removesuffix(end): value
        for key, value in found
        if key.startswith(prefix)
    }


class TestCounted:
    def test_by_what_came_of_them_and_how_long_they_took(self, metrics_folder):
        def lose(errand):
            make_due(Errand)
            work.claim_due(Errand, limit=1, lease_seconds=60)

        def fail(fault):
            def perform(_errand):
                raise fault

            return perform

        for perform in (
            lambda _errand: None,
            lambda _errand: partial(work.mark_retry, error_code="no", delay_seconds=60),
            lambda _errand: work.mark_continued,
            lambda _errand: partial(work.mark_failed, error_code="no"),
            lambda _errand: working.recorded,
            fail(Unavailable("away")),
            fail(ZeroDivisionError()),
            lose,
        ):
            Errand.objects.all().delete()
            add("a")
            working.work_due(replace(ERRANDS, perform=perform))

        assert counted() == dict.fromkeys(
            (
                *("done", "put_off", "continued", "failed"),
                *("recorded", "away", "fault", "lost"),
            ),
            1.0,
        )
        assert all(seconds > 0 for seconds in counted("sum").values())

    def test_that_were_worked_together_each(self, metrics_folder):
        add(*"abcd")

        def together(rows):
            work.mark_all_done(Errand, rows[:3])
            return working.Together(left=rows[3:])

        working.work_due(replace(ERRANDS, alike=lambda _errand: 1, together=together))

        assert (states(), counted()) == ({"done": 4}, {"done": 4.0})

    def test_that_were_worked_together_but_put_off_or_lost(self, metrics_folder):
        add(*"abcdef")

        def together(rows):
            return working.Together(left=rows[:1], put_off=2, lost=1)

        working.work_due(replace(ERRANDS, alike=lambda _errand: 1, together=together))

        # What is left is worked for itself: it is done as well, and counted once.
        assert counted() == {"done": 3.0, "put_off": 2.0, "lost": 1.0}

    def test_that_failed_together_one_by_one_alone(self, metrics_folder):
        add(*"ab")

        def together(_rows):
            raise ZeroDivisionError

        working.work_due(replace(ERRANDS, alike=lambda _errand: 1, together=together))

        assert (states(), counted()) == ({"done": 2}, {"done": 2.0})

    def test_with_their_share_of_the_time(self, metrics_folder):
        working.count(6.0, kind=KIND, outcome="done", rows=3)
        working.count(6.0, kind=KIND, outcome="done", rows=0)

        found = counters.read()
        assert (counted(), counted("sum")) == ({"done": 3.0}, {"done": 6.0})
        labels = f'kind="{KIND}",outcome="done"'
        assert f'kassa_work_seconds_bucket{{{labels},le="1"}}' not in found
        assert found[f'kassa_work_seconds_bucket{{{labels},le="10"}}'] == 3.0

    def test_on_the_page_that_is_scraped(self, metrics_folder):
        add(*"ab")

        run_errands()

        lines = metrics.render().splitlines()
        assert "# TYPE kassa_work_seconds histogram" in lines
        assert f'kassa_work_seconds_bucket{{kind="{KIND}",outcome="done",le="+Inf"}} 2' in lines


class TestPoison:
    def test_among_a_thousand_is_quarantined_and_all_others_are_done(self):
        add(*[f"number {n}" for n in range(1000)])
        errands.faults["number 500"] = ZeroDivisionError()

        for _ in range(work.ATTEMPTS_MAX):
            make_due(Errand)
            run_errands()

        assert states() == {"done": 999, "quarantined": 1}
        poison = Errand.objects.get(state="quarantined")
        assert (poison.name, poison.attempts, poison.times_done) == ("number 500", 12, 0)
        assert Errand.objects.filter(times_done=1).count() == 999

    def test_that_kills_its_worker_is_quarantined_and_takes_nobody_along(self):
        add(*[f"number {n}" for n in range(20)])
        errands.faults["number 7"] = KeyboardInterrupt()

        for _ in range(work.LAPSES_MAX + 25):
            make_due(Errand)
            try:
                run_errands()
            except KeyboardInterrupt:
                continue

        poison = Errand.objects.get(state="quarantined")
        assert (poison.name, poison.last_error_code) == ("number 7", "lapsed")
        assert states() == {"done": 19, "quarantined": 1}


DIES_WITH_A_LEASE = """
import os
import django

django.setup()
from dataclasses import replace
from apps.core import working
from tests.core.errands import ERRANDS

working.run(replace(ERRANDS, perform=lambda _: os._exit(9)))
"""


class TestInherits:
    def test_the_lease_of_a_worker_that_died(self):
        add("a")

        with running("-c", DIES_WITH_A_LEASE) as process:
            assert process.wait(30) == 9
        held = Errand.objects.get()
        assert (held.state, run_errands()) == ("leased", 0)
        make_due(Errand)
        run_errands()

        row = Errand.objects.get()
        assert (row.state, row.attempts, row.times_done) == ("done", 2, 1)

    def test_the_sweep(self):
        work.sweep()
        assert messages() == 0
        add("a")

        work.sweep()

        assert messages() == 1
        with current_app.connection_for_read() as connection_:
            message = connection_.default_channel.basic_get("default", no_ack=True)
        assert message.headers["task"] == TASK

    def test_the_sweep_once_for_all_the_messages_that_piled_up(self, monkeypatch):
        monkeypatch.setattr(tasks, "_looked_at", {})
        monkeypatch.setattr(tasks, "_LOOK_SECONDS_MIN", 60)
        add("a")

        for _ in range(3):
            tasks.sweep()

        assert messages() == 1
        monkeypatch.setattr(tasks, "_LOOK_SECONDS_MIN", 0)
        tasks.sweep()
        assert messages() == 2

    def test_the_trace_of_what_caused_it(self):
        [errand] = add("a")
        Errand.objects.filter(id=errand.id).update(traceparent=TRACE)
        traces = []

        def perform(_errand):
            traces.append(context.current().traceparent)
            return lambda _row: traces.append(context.current().traceparent)

        working.run(replace(ERRANDS, perform=perform))

        assert traces == [TRACE, TRACE]
        assert context.current().traceparent != TRACE

    def test_the_storage_of_a_queue(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT reloptions FROM pg_class WHERE relname = 'tests_errand'")
            [(options,)] = cursor.fetchall()

        assert dict(option.split("=") for option in options) == work.STORAGE

    def test_the_page_of_stuck_work_and_the_release(self):
        add("a")
        errands.faults["a"] = ZeroDivisionError()
        for _ in range(work.ATTEMPTS_MAX):
            make_due(Errand)
            run_errands()
        [row] = stuck.list_stuck(organization_ids=[ORGANIZATION], limit=5, kind_name=KIND)
        assert (row.standing, row.attempts, row.error_code) == (
            "quarantined",
            12,
            "ZeroDivisionError",
        )
        counted = {one.name: one for one in stuck.count_work(organization_ids=[ORGANIZATION])}
        assert counted[KIND].number("quarantined") == 1
        errands.faults.clear()

        release = partial(operations.release_work, kind_name=KIND, row_id=row.id, actor=ANN)
        release(reason="Mended.")
        with pytest.raises(StateConflict):
            release(reason="Mended.")
        run_errands()

        assert states() == {"done": 1}
        assert AuditEvent.objects.get().act == "core.requeue_work"

    def test_the_invariant_that_no_row_is_overdue(self):
        add("a")
        make_due(Errand)

        broken = [
            name
            for name, breach in invariants.check(invariants.collect(only_apps=frozenset({"core"})))
            if breach is not None
        ]

        assert broken == ["tests_errand_is_not_overdue"]
