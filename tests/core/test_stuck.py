"""What of the durable work stands still: by kind, by row, by job; and what it costs to know."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock, jobs, stuck, work
from apps.core.ids import new_id, new_ids
from apps.core.jobs import Every
from apps.core.models import EventWork, JobRun
from apps.core.stuck import Depth, Standing
from apps.core.work import _registry
from tests.core.events_of_tests import ORGANIZATION, OTHER

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
KIND = "core.consume"


def add(count=1, *, state="pending", due_seconds_ago=1, organization_id=ORGANIZATION, **more):
    due = clock.now() - timedelta(seconds=due_seconds_ago)
    return EventWork.objects.bulk_create(
        EventWork(
            organization_id=organization_id,
            batch_id=id_,
            consumer="tests",
            state=state,
            next_attempt_at=due + timedelta(microseconds=place),
            **more,
        )
        for place, id_ in enumerate(new_ids(count))
    )


def counted(organization_ids=None, kind=KIND):
    found = {one.name: one for one in stuck.count_work(organization_ids=organization_ids)}
    return found[kind]


def numbers(**more):
    return {str(at): depth.number for at, depth in counted(**more).depths.items()}


def listed(**more):
    options = {"organization_ids": None, "limit": 50} | more
    return [row.id for row in stuck.list_stuck(**options)]


class TestCountWork:
    def test_has_every_registered_kind_whether_it_has_work_or_not(self):
        found = stuck.count_work(organization_ids=None)

        assert [one.name for one in found] == [kind.name for kind in work.kinds()]
        assert all(one.depths == {} for one in found)

    def test_has_a_kind_by_its_registration_alone(self, monkeypatch):
        monkeypatch.setattr(_registry, "_kinds", dict(_registry._kinds))
        work.register_kind(work.Kind("a.kind", EventWork, "a.task", "events", 30))
        add()

        assert counted(kind="a.kind").number(Standing.DUE) == 1

    def test_says_how_rows_stand(self):
        add(1, due_seconds_ago=300)
        add(2, due_seconds_ago=30)
        add(3, due_seconds_ago=-60)
        add(4, due_seconds_ago=-60, state="leased")
        for number, state in ((5, "quarantined"), (6, "failed"), (7, "paused"), (8, "done")):
            add(number, state=state)

        assert numbers() == {
            "overdue": 1,
            "due": 2,
            "waiting": 3,
            "leased": 4,
            "quarantined": 5,
            "failed": 6,
            "paused": 7,
        }

    def test_calls_a_lease_overdue_that_ended_long_ago(self):
        add(state="leased", due_seconds_ago=300)

        assert numbers() == {"overdue": 1}

    def test_says_since_when_the_oldest_has_been_due(self):
        [oldest] = add(due_seconds_ago=50)
        add(due_seconds_ago=5)
        add(state="quarantined", due_seconds_ago=5000)

        assert counted().oldest_due_at == oldest.next_attempt_at
        assert counted().depths[Standing.DUE] == Depth(2, oldest.next_attempt_at)

    def test_has_nothing_due_where_all_wait(self):
        add(due_seconds_ago=-60)

        assert counted().oldest_due_at is None

    def test_stops_counting_at_its_bound(self):
        add(stuck.COUNT_MAX + 5)
        add(stuck.COUNT_MAX + 5, state="quarantined")

        assert numbers() == {"due": stuck.COUNT_MAX + 1, "quarantined": stuck.COUNT_MAX + 1}
        assert counted().is_cut

    def test_counts_the_work_of_these_organizations_and_of_none(self):
        add(1)
        add(2, organization_id=OTHER)
        JobRun.objects.create(kind="a.job", period="2026-11-02", due_at=NOW)

        assert numbers(organization_ids=[ORGANIZATION]) == {"due": 1}
        assert numbers(organization_ids=[OTHER]) == {"due": 2}
        assert numbers(organization_ids=[]) == {}
        assert numbers(organization_ids=[], kind="core.jobs") == {"due": 1}


class TestListStuck:
    def test_has_what_waits_for_a_person_the_oldest_first(self):
        [later] = add(state="quarantined", due_seconds_ago=100)
        [first] = add(due_seconds_ago=500)
        for state in ("failed", "paused", "done"):
            add(state=state, due_seconds_ago=1000)
        add(due_seconds_ago=5)

        assert listed() == [first.id, later.id]

    def test_has_what_a_row_says_of_itself(self):
        [row] = add(state="quarantined", attempts=12, lapses=3, last_error_code="job_failed")

        [found] = stuck.list_stuck(organization_ids=None, limit=5)

        assert found == stuck.StuckRow(
            kind=KIND,
            id=row.id,
            organization_id=ORGANIZATION,
            standing=Standing.QUARANTINED,
            attempts=12,
            lapses=3,
            error_code="job_failed",
            due_at=row.next_attempt_at,
        )

    def test_has_what_stands_in_another_way_where_that_is_asked_for(self):
        [failed] = add(state="failed")
        add(state="quarantined")

        assert listed(standings=[Standing.FAILED]) == [failed.id]

    def test_has_one_kind_where_that_is_asked_for(self):
        add(state="quarantined")

        assert listed(kind_name="core.relay") == []
        assert listed(kind_name="no.kind") == []
        assert len(listed(kind_name=KIND)) == 1

    def test_has_no_more_than_is_asked_for(self):
        first, second, _ = add(3, state="quarantined")

        assert listed(limit=2) == [first.id, second.id]

    def test_has_the_work_of_these_organizations_and_of_none(self):
        add(state="quarantined", organization_id=OTHER)
        run = JobRun.objects.create(
            kind="a.job", period="2026-11-02", due_at=NOW, state="quarantined"
        )

        assert listed(organization_ids=[ORGANIZATION]) == [run.id]


class TestCost:
    @pytest.fixture
    def much_is_done(self):
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO core_event_work (id, organization_id, batch_id, consumer, state,"
                " attempts, lapses, last_error_code, traceparent, next_attempt_at)"
                " SELECT gen_random_uuid(), %s, gen_random_uuid(), 'tests', 'done', 1, 0, '', '',"
                " now() - interval '1 day' FROM generate_series(1, 20000)",
                [ORGANIZATION],
            )
        add(3, state="quarantined")
        add(3)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE core_event_work")

    @pytest.mark.parametrize(
        "read",
        [
            lambda: stuck.count_work(organization_ids=None),
            lambda: stuck.count_work(organization_ids=[ORGANIZATION]),
            lambda: stuck.list_stuck(organization_ids=None, limit=50),
            lambda: stuck.list_stuck(organization_ids=[ORGANIZATION], limit=50),
        ],
    )
    def test_is_one_statement_that_never_reads_what_is_done(self, much_is_done, read):
        with CaptureQueriesContext(connection) as queries:
            read()

        [statement] = [query["sql"] for query in queries]
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {statement}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "event_work_due" in plan
        assert "event_work_set_aside" in plan
        assert "Seq Scan on core_event_work" not in plan

    def test_of_the_jobs_is_two_statements_however_many_there_are(self, declared):
        for number in range(7):
            declared(f"tests.job{number}")
        jobs.plan_due(now=NOW)

        with CaptureQueriesContext(connection) as queries:
            stuck.list_jobs(now=NOW)

        assert len(queries) == 2


@pytest.fixture
def declared(monkeypatch):
    monkeypatch.setattr(jobs, "_jobs", {})

    def declare(kind="tests.job", *, minutes=10, catch_up="latest"):
        jobs.declare(kind=kind, schedule=Every(minutes), run=lambda *_: None, catch_up=catch_up)

    return declare


def period(*, minutes=0.0, state="done", finished=True, kind="tests.job"):
    due_at = NOW + timedelta(minutes=minutes)
    return JobRun.objects.create(
        id=new_id(),
        kind=kind,
        period=f"{due_at:%Y-%m-%dT%H:%MZ}",
        due_at=due_at,
        state=state,
        finished_at=due_at + timedelta(seconds=5) if state == "done" and finished else None,
    )


def standing(*, minutes=0.0):
    [found] = stuck.list_jobs(now=NOW + timedelta(minutes=minutes))
    return found


class TestListJobs:
    def test_has_every_declared_job_by_name(self, declared):
        declared("tests.b")
        declared("tests.a")

        assert [one.job.kind for one in stuck.list_jobs(now=NOW)] == ["tests.a", "tests.b"]

    def test_says_when_a_job_last_succeeded_and_is_next_due(self, declared):
        declared()
        period(minutes=-10)
        period()

        found = standing(minutes=1)

        assert found.last_success_at == NOW + timedelta(seconds=5)
        assert found.next_due_at == NOW + timedelta(minutes=10)
        assert not found.is_late(now=NOW + timedelta(minutes=1))

    def test_takes_no_period_for_a_success_that_was_given_up_unrun(self, declared):
        declared()
        period(minutes=-10)
        period(finished=False)

        assert standing().last_success_at == NOW - timedelta(minutes=10) + timedelta(seconds=5)

    def test_counts_periods_that_run_wait_and_were_set_aside(self, declared):
        declared()
        period(minutes=-50, state="failed")
        first = period(minutes=-60, state="quarantined")
        period(minutes=-20, state="leased")
        period(minutes=-10, state="pending")
        period(state="pending")

        found = standing()

        assert (found.running, found.waiting, found.set_aside) == (1, 2, 2)
        assert found.first_set_aside_id == first.id

    def test_calls_a_job_stopped_that_runs_all_periods_and_has_one_set_aside(self, declared):
        declared("tests.all", catch_up="all")
        declared("tests.latest")
        for kind in ("tests.all", "tests.latest"):
            period(kind=kind, state="quarantined")

        assert [one.is_stopped for one in stuck.list_jobs(now=NOW)] == [True, False]

    def test_calls_a_job_late_whose_last_success_is_older_than_two_periods(self, declared):
        declared()
        period()
        period(minutes=10, state="pending")

        on_time, late = NOW + timedelta(minutes=20), NOW + timedelta(minutes=20, seconds=6)

        assert not standing(minutes=20).is_late(now=on_time)
        assert standing(minutes=20).is_late(now=late)

    def test_calls_a_job_late_that_never_succeeded_in_two_periods(self, declared):
        declared()
        period(state="pending")

        assert not standing().is_late(now=NOW + timedelta(minutes=20))
        assert standing().is_late(now=NOW + timedelta(minutes=21))

    def test_counts_the_periods_that_nobody_planned(self, declared):
        declared()
        period()

        assert standing(minutes=10.5).missed == 0
        assert standing(minutes=11).missed == 1
        assert standing(minutes=45).missed == 4
        assert standing(minutes=60 * 24 * 30).missed == stuck.MISSED_COUNTED_MAX

    def test_knows_a_job_that_was_never_planned(self, declared):
        declared()

        found = standing()

        assert (found.is_planned, found.missed, found.last_success_at) == (False, 0, None)
        assert not found.is_late(now=NOW)

    def test_passes_over_periods_of_a_job_that_is_not_declared(self, declared):
        declared()
        period(kind="tests.gone", state="quarantined")

        assert standing().set_aside == 0
