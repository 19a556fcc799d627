"""Scheduled jobs: one row per period, caught up or not, whatever the clocks do."""

from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import pairwise

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from apps.core import clock, jobs, work, working
from apps.core.errors import InvariantBroken
from apps.core.ids import first_id
from apps.core.jobs import Daily, Every
from apps.core.models import JobRun
from tests.core.events_of_tests import ORGANIZATION, OTHER, end_delays, make_due
from tests.support import race

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
instants = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001  (hypothesis adds the zone)
    max_value=datetime(2030, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
schedules = st.builds(Every, st.integers(1, 20_000)) | st.builds(
    Daily, st.times(), st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"])
)


class TestEvery:
    def test_is_on_the_grid_of_the_epoch(self):
        latest = Every(5).latest(until=NOW + timedelta(minutes=3))

        assert (latest.name, latest.due_at) == ("2026-11-02T09:30Z", NOW)

    def test_has_a_latest_period_though_it_is_rarer_than_daily(self):
        latest = Every(60 * 24 * 7).latest(until=NOW)

        assert NOW - timedelta(days=7) < latest.due_at <= NOW

    def test_follows_without_the_one_before_and_with_the_last(self):
        names = [p.name for p in Every(15).following(after=NOW, until=NOW + timedelta(minutes=30))]

        assert names == ["2026-11-02T09:45Z", "2026-11-02T10:00Z"]


class TestDaily:
    @pytest.mark.parametrize(
        ("day", "at", "zone", "due"),
        [
            # The hour that Berlin skips: right after the gap.
            ((2026, 3, 29), time(2, 30), "Europe/Berlin", "2026-03-29T01:00:00+00:00"),
            ((2026, 3, 28), time(2, 30), "Europe/Berlin", "2026-03-28T01:30:00+00:00"),
            # The hour that Berlin has twice: the first.
            ((2026, 10, 25), time(2, 30), "Europe/Berlin", "2026-10-25T00:30:00+00:00"),
            # Midnight that Santiago skips.
            ((2026, 9, 6), time(0, 0), "America/Santiago", "2026-09-06T04:00:00+00:00"),
        ],
    )
    def test_is_once_a_local_date_though_the_clocks_change(self, day, at, zone, due):
        noon = datetime(*day, 20, tzinfo=UTC)

        latest = Daily(at, zone).latest(until=noon)

        assert (latest.name, latest.due_at.isoformat()) == (noon.date().isoformat(), due)

    def test_is_yesterdays_until_todays_is_due(self):
        daily = Daily(time(18), "Europe/Berlin")

        assert daily.latest(until=datetime(2026, 11, 2, 16, 59, tzinfo=UTC)).name == "2026-11-01"
        assert daily.latest(until=datetime(2026, 11, 2, 17, 0, tzinfo=UTC)).name == "2026-11-02"

    def test_is_named_by_the_local_date(self):
        latest = Daily(time(0, 30), "Pacific/Auckland").latest(until=NOW)

        assert (latest.name, latest.due_at) == (
            "2026-11-02",
            datetime(2026, 11, 1, 11, 30, tzinfo=UTC),
        )


class TestSchedules:
    @given(schedules, instants, st.timedeltas(timedelta(0), timedelta(days=3)))
    def test_repeat_nothing_and_stay_within_the_span(self, schedule, start, span):
        found = list(schedule.following(after=start, until=start + span))

        assert [p.due_at for p in found] == sorted({p.due_at for p in found})
        assert len({p.name for p in found}) == len(found)
        assert all(start < period.due_at <= start + span for period in found)

    @given(st.times(), st.sampled_from(["Europe/Berlin", "America/New_York"]), instants)
    def test_of_a_day_leave_out_no_date(self, at_, zone, start):
        found = Daily(at_, zone).following(after=start, until=start + timedelta(days=400))

        days = [date.fromisoformat(period.name) for period in found]
        assert all(later - day == timedelta(days=1) for day, later in pairwise(days))
        assert len(days) in {399, 400, 401}

    @given(schedules, instants)
    def test_have_one_latest_that_follows_the_instant_before_it(self, schedule, until):
        latest = schedule.latest(until=until)

        assert latest.due_at <= until
        before = latest.due_at - timedelta(microseconds=1)
        assert next(iter(schedule.following(after=before, until=until))) == latest
        assert list(schedule.following(after=latest.due_at, until=until)) == []


@pytest.fixture
def declared(monkeypatch):
    """Declare jobs for one test; return what they were run for."""
    runs: list[tuple[str, str]] = []
    monkeypatch.setattr(jobs, "_jobs", {})

    def declare(kind="tests.job", *, minutes=10, catch_up="all", schedule=None, run=None):
        def note(period, _now):
            runs.append((kind, period))
            if run is not None:
                run(period)

        jobs.declare(kind=kind, schedule=schedule or Every(minutes), run=note, catch_up=catch_up)

    declare.runs = runs
    return declare


@pytest.fixture
def go_wrong(monkeypatch):
    """Have this machine's clock go wrong by so much, and not the database's."""

    def set_off(**by):
        off = timedelta(**by)
        monkeypatch.setattr(clock, "now", lambda: timezone.now() + off)

    return set_off


def planned(kind="tests.job") -> list[str]:
    return list(
        JobRun.objects.filter(kind=kind).order_by("due_at").values_list("period", flat=True)
    )


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def fail(_period):
    raise ZeroDivisionError


def run_due() -> int:
    """Run the period that is due first; return how many were tried, one or none."""
    return working.work_due(jobs.RUNNING)


def run_all(rounds=20) -> None:
    for _ in range(rounds):
        make_due(JobRun)
        if not run_due():
            return


@pytest.mark.django_db(transaction=True)
class TestPlan:
    @pytest.mark.parametrize("catch_up", ["all", "latest"])
    def test_begins_a_new_job_with_its_latest_period(self, declared, catch_up):
        declared(catch_up=catch_up)

        jobs.plan_due(now=at(7))

        assert planned() == ["2026-11-02T09:30Z"]

    def test_begins_a_job_that_is_rarer_than_daily(self, declared):
        declared(minutes=60 * 24 * 30)

        jobs.plan_due(now=NOW)

        assert len(planned()) == 1

    def test_plans_each_period_once(self, declared):
        declared()

        for minutes in (0, 0, 5, 9.99, 10, 10.01):
            jobs.plan_due(now=at(minutes))

        assert planned() == ["2026-11-02T09:30Z", "2026-11-02T09:40Z"]

    def test_catches_up_all_that_were_missed_in_order(self, declared):
        declared(catch_up="all")
        jobs.plan_due(now=NOW)

        jobs.plan_due(now=at(35))

        assert planned() == [f"2026-11-02T{t}Z" for t in ("09:30", "09:40", "09:50", "10:00")]

    def test_catches_up_a_hundred_a_pass_without_a_gap(self, declared):
        declared(minutes=1)
        jobs.plan_due(now=NOW)

        counts = [jobs.plan_due(now=at(250)) for _ in range(4)]

        assert counts == [100, 100, 50, 0]
        assert len(planned()) == 251

    def test_passes_over_what_was_missed_but_the_latest(self, declared):
        declared(catch_up="latest")
        jobs.plan_due(now=NOW)

        jobs.plan_due(now=at(35))
        jobs.plan_due(now=at(36))

        assert planned() == ["2026-11-02T09:30Z", "2026-11-02T10:00Z"]

    def test_plans_nothing_anew_when_the_clock_goes_back(self, declared):
        declared(catch_up="all")
        declared("tests.other", catch_up="latest")
        jobs.plan_due(now=at(60))

        assert jobs.plan_due(now=NOW) == 0
        assert jobs.plan_due(now=at(70)) == 2
        assert planned() == ["2026-11-02T10:30Z", "2026-11-02T10:40Z"]

    def test_keeps_one_run_a_day_when_the_time_of_day_is_moved(self, declared):
        declared(schedule=Daily(time(9), "UTC"))
        jobs.plan_due(now=NOW)
        declared(schedule=Daily(time(10), "UTC"))

        for hours in (0, 1, 2, 25):
            jobs.plan_due(now=NOW + timedelta(hours=hours))

        assert planned() == ["2026-11-02", "2026-11-03"]

    @pytest.mark.parametrize("catch_up", ["all", "latest"])
    @pytest.mark.parametrize(
        ("first", "changes", "due"),
        [
            # Berlin's clocks show 02:30 on the second day never, or twice.
            (datetime(2026, 3, 28, tzinfo=UTC), "2026-03-29", "01:00"),
            (datetime(2026, 10, 24, tzinfo=UTC), "2026-10-25", "00:30"),
        ],
        ids=["skipped", "repeated"],
    )
    def test_has_one_run_of_a_day_whose_clocks_change_as_time_goes_by(
        self, declared, catch_up, first, changes, due
    ):
        declared(schedule=Daily(time(2, 30), "Europe/Berlin"), catch_up=catch_up)
        planned_at = {}

        for minutes in range(0, 3 * 24 * 60, 30):
            jobs.plan_due(now=first + timedelta(minutes=minutes))
            for period in planned():
                planned_at.setdefault(period, first + timedelta(minutes=minutes))

        days = [(first + timedelta(days=day)).date().isoformat() for day in range(-1, 3)]
        assert planned() == days
        row = JobRun.objects.get(period=changes)
        assert f"{row.due_at:%Y-%m-%d %H:%M}" == f"{changes} {due}"
        # Planned by the first who looks once it is due.
        assert planned_at[changes] == row.due_at

    @pytest.mark.parametrize("month", [3, 10])
    def test_catches_up_days_whose_clocks_changed(self, declared, month):
        declared(schedule=Daily(time(2, 30), "Europe/Berlin"))
        jobs.plan_due(now=datetime(2026, month, 20, 12, tzinfo=UTC))

        jobs.plan_due(now=datetime(2026, month, 31, 12, tzinfo=UTC))

        assert planned() == [f"2026-{month:02}-{day}" for day in range(20, 32)]

    def test_by_two_beats_in_turn_leaves_one_row_each(self, declared):
        declared(minutes=10)
        declared("tests.latest", minutes=10, catch_up="latest")

        # Each looks every minute; the clock of one is seven minutes behind.
        for minute in range(60):
            for behind in (0, 7):
                jobs.plan_due(now=at(minute - behind))
                run_all(1)
                run_all(1)

        periods = [f"2026-11-02T{t}Z" for t in ("09:30", "09:40", "09:50")]
        periods += [f"2026-11-02T10:{minute}Z" for minute in ("00", "10", "20")]
        assert planned() == planned("tests.latest") == periods
        assert sorted(declared.runs) == sorted(
            (kind, period) for kind in ("tests.job", "tests.latest") for period in periods
        )

    def test_by_a_worker_whose_clock_is_off_is_on_the_databases(self, declared, go_wrong):
        """Else a year ahead, once, would be a year in which nothing is planned any more."""
        declared(minutes=60)
        go_wrong(days=365)

        jobs.plan_due()

        due = JobRun.objects.get().due_at
        assert timedelta(0) <= clock.database_now() - due < timedelta(hours=1, minutes=1)

    def test_by_many_at_once_with_clocks_apart_leaves_one_row_each(self, declared):
        declared(minutes=1)
        jobs.plan_due(now=NOW)

        race(*(partial(jobs.plan_due, now=at(minutes)) for minutes in (5, 5, 7, 9, 9, 3)))

        assert planned() == [f"2026-11-02T09:{minute}Z" for minute in range(30, 40)]


@pytest.mark.django_db(transaction=True)
class TestRun:
    def test_runs_a_period_once(self, declared):
        declared()
        jobs.plan_due(now=NOW)

        run_all()

        assert declared.runs == [("tests.job", "2026-11-02T09:30Z")]
        row = JobRun.objects.get()
        assert (row.state, row.attempts) == ("done", 1)
        assert row.finished_at is not None

    @pytest.mark.parametrize("days", [60, -60])
    def test_tells_it_the_time_by_the_databases_clock(self, monkeypatch, go_wrong, days):
        """Else one that is ahead would drop what is still to be kept, and expire what holds."""
        told = []
        monkeypatch.setattr(jobs, "_jobs", {})
        jobs.declare(kind="tests.job", schedule=Every(10), run=lambda _, now: told.append(now))
        jobs.plan_due(now=NOW)
        before = clock.database_now()
        go_wrong(days=days)

        run_all()

        [now] = told
        assert before <= now <= clock.database_now()

    def test_by_many_at_once_runs_each_once(self, declared):
        for number in range(8):
            declared(f"tests.job{number}")
        jobs.plan_due(now=NOW)

        race(*[run_due] * 8)
        run_all()

        assert len(declared.runs) == len(set(declared.runs)) == 8

    def test_keeps_the_order_of_those_it_catches_up(self, declared):
        declared()
        jobs.plan_due(now=NOW)
        jobs.plan_due(now=at(30))

        def run_beside_others():
            for _ in range(8):
                end_delays(JobRun)
                run_due()

        race(*[run_beside_others] * 3)
        run_all()

        assert [period[-6:-1] for _, period in declared.runs] == [
            "09:30",
            "09:40",
            "09:50",
            "10:00",
        ]

    def test_stops_later_periods_of_a_failed_one_and_of_no_other(self, declared):
        broken = {"2026-11-02T09:30Z"}

        def run(period):
            if period in broken:
                raise ZeroDivisionError

        declared(run=run)
        declared("tests.other")
        jobs.plan_due(now=NOW)
        jobs.plan_due(now=at(10))

        # One after the other is due: of several at one instant any may come first each time.
        for row_id in [*JobRun.objects.values_list("id", flat=True)] * 4:
            JobRun.objects.filter(id=row_id, state="pending").update(next_attempt_at=NOW)
            run_due()

        assert ("tests.job", "2026-11-02T09:40Z") not in declared.runs
        assert [run for run in declared.runs if run[0] == "tests.other"] == [
            ("tests.other", "2026-11-02T09:30Z"),
            ("tests.other", "2026-11-02T09:40Z"),
        ]
        failed, waiting = JobRun.objects.filter(kind="tests.job").order_by("due_at")
        assert (failed.state, failed.last_error_code) == ("pending", "ZeroDivisionError")
        assert (waiting.state, waiting.last_error_code) == ("pending", "waits_for_earlier_period")

        broken.clear()
        run_all()
        assert declared.runs[-1] == ("tests.job", "2026-11-02T09:40Z")

    def test_stops_no_period_of_another_scope_or_organization(self, declared):
        declared()
        for organization_id, scope in ((ORGANIZATION, "a"), (ORGANIZATION, "b"), (OTHER, "a")):
            for minutes in (0, 10):
                period = {"organization_id": organization_id, "kind": "tests.job", "scope": scope}
                JobRun.objects.create(**period, period=f"+{minutes}", due_at=at(minutes))
        failed = JobRun.objects.filter(organization_id=ORGANIZATION, scope="a", due_at=NOW)
        failed.update(state="quarantined")

        # A period that is looked at before the one it follows waits, and is done the next time.
        for _ in range(2):
            while run_due():
                pass
            end_delays(JobRun)

        left = JobRun.objects.exclude(state="done").order_by("due_at")
        assert list(left.values_list("organization_id", "scope", "period", "state")) == [
            (ORGANIZATION, "a", "+0", "quarantined"),
            (ORGANIZATION, "a", "+10", "pending"),
        ]

    def test_waiting_does_not_use_up_the_attempts(self, declared):
        declared(run=fail)
        jobs.plan_due(now=NOW)
        jobs.plan_due(now=at(10))

        run_all(40)

        assert list(JobRun.objects.order_by("due_at").values_list("state", flat=True)) == [
            "quarantined",
            "pending",
        ]
        JobRun.objects.filter(state="quarantined").update(state="done")

        run_all(1)

        waited = JobRun.objects.get(state="pending")
        assert (waited.attempts, waited.last_error_code) == (1, "ZeroDivisionError")

    def test_waiting_for_one_that_runs_uses_up_none_either(self, declared):
        declared(catch_up="latest", run=fail)
        jobs.plan_due(now=NOW)
        [running] = work.claim_due(JobRun, limit=1, lease_seconds=600)
        jobs.plan_due(now=at(10))
        for _ in range(20):
            end_delays(JobRun)
            run_due()
        JobRun.objects.filter(id=running.id).update(state="done")

        run_all(1)

        waited = JobRun.objects.get(state="pending")
        assert (waited.attempts, waited.last_error_code) == (1, "ZeroDivisionError")

    def test_waiting_for_a_release_uses_up_none_either(self, declared):
        declared("tests.new", run=fail)
        jobs.plan_due(now=NOW)
        known = jobs._jobs.pop("tests.new")
        run_all(20)
        jobs._jobs["tests.new"] = known

        run_all(1)

        waited = JobRun.objects.get()
        assert (waited.state, waited.attempts) == ("pending", 1)
        assert waited.last_error_code == "ZeroDivisionError"

    def test_sets_aside_what_nobody_has_known_for_a_day(self, declared):
        declared("tests.gone")
        jobs.plan_due(now=NOW)
        JobRun.objects.update(id=first_id(clock.now() - timedelta(days=1)))
        jobs._jobs.clear()

        run_all(14)

        row = JobRun.objects.get()
        assert (row.state, row.attempts) == ("quarantined", 12)
        assert row.last_error_code == "job_not_declared"

    def test_gives_an_old_period_up_where_only_the_latest_counts(self, declared):
        declared(catch_up="latest")
        jobs.plan_due(now=NOW)
        jobs.plan_due(now=at(10))

        run_all()

        assert declared.runs == [("tests.job", "2026-11-02T09:40Z")]
        old = JobRun.objects.order_by("due_at").first()
        assert (old.state, old.last_error_code, old.finished_at) == ("done", "superseded", None)

    def test_does_not_run_beside_itself_where_only_the_latest_counts(self, declared):
        declared(catch_up="latest")
        jobs.plan_due(now=NOW)
        work.claim_due(JobRun, limit=1, lease_seconds=60)
        jobs.plan_due(now=at(10))

        run_due()

        assert declared.runs == []
        assert JobRun.objects.get(state="pending").last_error_code == "waits_for_earlier_period"

    def test_has_either_a_run_or_steps(self, declared):
        for ways in ({}, {"run": print, "steps": print}):
            with pytest.raises(InvariantBroken):
                jobs.declare(kind="tests.job", schedule=Every(10), **ways)

        assert jobs.declared() == []

    def test_waits_for_a_process_that_knows_the_job(self, declared):
        declared("tests.new")
        jobs.plan_due(now=NOW)
        jobs._jobs.clear()

        run_due()

        assert JobRun.objects.get().last_error_code == "job_not_declared"
        declared("tests.new")
        run_all()
        assert len(declared.runs) == 1

    def test_leaves_alone_what_another_worker_took_over(self, declared):
        declared(
            run=lambda _period: (
                make_due(JobRun),
                work.claim_due(JobRun, limit=1, lease_seconds=60),
            )
        )
        jobs.plan_due(now=NOW)

        run_due()

        assert JobRun.objects.get().state == "leased"


@pytest.mark.django_db(transaction=True)
class TestSteps:
    """A job whose work is cut: between two turns its row says where it goes on."""

    @pytest.fixture(autouse=True)
    def _short_turns(self, monkeypatch):
        monkeypatch.setattr(working, "TURN_SECONDS", -1.0)

    @pytest.fixture
    def counting(self, monkeypatch):
        """Declare a job of three steps; return what it did, and a step that fails."""
        monkeypatch.setattr(jobs, "_jobs", {})
        done: list[str] = []
        broken: set[str] = set()

        def steps(period, _now, place):
            for step in "abc":
                if step > place:
                    if step in broken:
                        raise ZeroDivisionError
                    done.append(f"{period[-6:-1]} {step}")
                    yield step

        jobs.declare(kind="tests.job", schedule=Every(10), steps=steps)
        return done, broken

    def row(self, minutes=0) -> JobRun:
        return JobRun.objects.get(due_at=at(minutes))

    def test_are_gone_on_with_where_the_turn_before_ended(self, counting):
        done, _ = counting
        jobs.plan_due(now=NOW)

        run_due()

        # Due now, and it was no failed attempt.
        stopped = self.row()
        assert (stopped.state, stopped.turns, stopped.place) == ("pending", 1, "a")
        assert (stopped.attempts, stopped.lapses, stopped.last_error_code) == (0, 0, "")
        assert stopped.finished_at is None
        assert work.due_kinds() == [work.find_kind("core.jobs")]
        run_all()
        assert done == ["09:30 a", "09:30 b", "09:30 c"]
        ended = self.row()
        assert (ended.state, ended.turns, ended.place) == ("done", 3, "c")
        assert ended.finished_at is not None

    @pytest.mark.parametrize(("slow", "kept"), [("c", "b"), ("a", "")])
    def test_that_meet_the_limit_are_ended_and_what_was_done_is_kept(self, monkeypatch, slow, kept):
        monkeypatch.setattr(working, "TURN_SECONDS", 60.0)
        monkeypatch.setattr(jobs, "_jobs", {})
        done: list[str] = []

        def steps(_period, _now, place):
            for step in "abc":
                if step > place:
                    if step == slow and step not in done[-1:]:
                        done.append(step)
                        raise working.OutOfTime
                    done.append(step)
                    yield step

        jobs.declare(kind="tests.job", schedule=Every(10), steps=steps)
        jobs.plan_due(now=NOW)

        run_due()

        # A turn that came to no step's end is a failed attempt; any other just goes on.
        stopped = self.row()
        failure = ("SoftTimeLimitExceeded", 1) if not kept else ("", 0)
        assert (stopped.state, stopped.place) == ("pending", kept)
        assert (stopped.last_error_code, stopped.attempts) == failure
        run_all()
        assert (self.row().state, done) == ("done", list("abc".replace(slow, slow * 2)))

    def test_are_all_one_turn_where_there_is_time(self, counting, monkeypatch):
        monkeypatch.setattr(working, "TURN_SECONDS", 60.0)
        done, _ = counting
        jobs.plan_due(now=NOW)

        run_due()

        assert len(done) == 3
        assert (self.row().state, self.row().turns) == ("done", 0)

    def test_however_many_are_never_set_aside(self, monkeypatch):
        monkeypatch.setattr(jobs, "_jobs", {})
        turns = 3 * work.ATTEMPTS_MAX

        def steps(_period, _now, place):
            for step in range(int(place or 0) + 1, turns + 1):
                yield str(step)

        jobs.declare(kind="tests.job", schedule=Every(10), steps=steps)
        jobs.plan_due(now=NOW)

        run_all(2 * turns)

        assert (self.row().state, self.row().turns) == ("done", turns)

    def test_once_begun_end_before_a_later_period_begins(self, counting):
        done, _ = counting
        jobs.plan_due(now=NOW)
        run_due()
        jobs.plan_due(now=at(10))

        run_all()

        assert done == [f"{period} {step}" for period in ("09:30", "09:40") for step in "abc"]
        assert [self.row(minutes).state for minutes in (0, 10)] == ["done", "done"]

    def test_that_were_not_begun_give_way_to_a_later_period(self, counting):
        done, _ = counting
        jobs.plan_due(now=NOW)
        jobs.plan_due(now=at(10))

        run_all()

        assert done == ["09:40 a", "09:40 b", "09:40 c"]
        assert self.row().last_error_code == "superseded"

    def test_that_fail_give_way_too_and_hold_up_nothing(self, counting):
        done, broken = counting
        jobs.plan_due(now=NOW)
        run_due()
        broken.add("b")
        make_due(JobRun)
        run_due()
        failed = self.row()
        assert (failed.state, failed.last_error_code, failed.attempts) == (
            "pending",
            "ZeroDivisionError",
            1,
        )
        broken.clear()
        jobs.plan_due(now=at(10))

        run_all()

        assert done == ["09:30 a", "09:40 a", "09:40 b", "09:40 c"]
        assert self.row().last_error_code == "superseded"

    def test_of_a_dead_worker_are_gone_on_with_after_its_lease(self, counting):
        done, _ = counting
        jobs.plan_due(now=NOW)
        run_due()
        # It has the row and ends here, the place of the turn before in it.
        [dead] = work.claim_due(JobRun, limit=1, lease_seconds=60)
        assert run_due() == 0

        make_due(JobRun)
        run_due()

        assert done == ["09:30 a", "09:30 b"]
        assert (self.row().place, self.row().lapses) == ("b", 0)
        assert self.row().lease_token != dead.lease_token
