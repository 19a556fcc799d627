"""
Scheduled jobs: a row per period, inserted by whoever plans first and worked like any work row.

Beat only says "look now". A planner computes every period that should exist and is not there, so a
day without beat is caught up, and two beats make one run.

A job whose work grows with the books is a generator of steps, and is worked in turns of some
seconds: between two of them its row says where it goes on, and is due at once (ADR 0109).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import islice
from time import monotonic
from typing import Final, Literal, override

import structlog
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from apps.core import clock, failpoints, transactions, work, working
from apps.core.errors import InvariantBroken
from apps.core.failpoints import Failpoint
from apps.core.models import JobRun
from apps.core.wall_clock import day_of, first_instant_at
from apps.core.working import Record, Worker

log = structlog.get_logger(__name__)

JOBS_KIND: Final = "core.jobs"
PERIODS_A_PASS_MAX: Final = 100
_WAIT_SECONDS: Final = 5
# A run that stopped with more to do and has met no fault since: it is gone on with to its end.
_UNDER_WAY: Final = Q(turns__gt=0, last_error_code="", state__in=work.OPEN)


@dataclass(frozen=True, slots=True)
class Period:
    """One run that should exist: its name, and the instant from which on it is due."""

    name: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Every:
    """A job that runs each `minutes`, on the grid of the Unix epoch."""

    minutes: int

    @override
    def __str__(self) -> str:
        hours, minutes = divmod(self.minutes, 60)
        if minutes:
            return "every minute" if self.minutes == 1 else f"every {self.minutes} min"
        return "every hour" if hours == 1 else f"every {hours} h"

    @property
    def seconds(self) -> int:
        """Return how far apart two periods are."""
        return self.minutes * 60

    def latest(self, *, until: datetime) -> Period:
        """Return the last period that is due at `until`."""
        step = self.minutes * 60
        return self._at(int(until.timestamp()) // step * step)

    def following(self, *, after: datetime, until: datetime) -> Iterator[Period]:
        """Yield the periods due later than `after` and not later than `until`, in order."""
        step = self.minutes * 60
        tick = int(after.timestamp()) // step * step + step
        while tick <= until.timestamp():
            yield self._at(tick)
            tick += step

    @staticmethod
    def _at(tick: int) -> Period:
        instant = datetime.fromtimestamp(tick, UTC)
        return Period(instant.strftime("%Y-%m-%dT%H:%MZ"), instant)


@dataclass(frozen=True, slots=True)
class Daily:
    """
    A job that runs once a local date, at a wall-clock time of an IANA zone.

    Where the clocks jump over the time it runs right after the gap; where they show it twice, at
    the first.
    """

    at: time
    zone: str

    @override
    def __str__(self) -> str:
        return f"daily at {self.at:%H:%M} {self.zone}"

    @property
    def seconds(self) -> int:
        """Return how far apart two periods are, on a day whose clocks do not change."""
        return 86_400

    def latest(self, *, until: datetime) -> Period:
        """Return the last period that is due at `until`."""
        today = self._on(day_of(instant=until, zone=self.zone))
        if today.due_at <= until:
            return today
        return self._on(day_of(instant=until, zone=self.zone) - timedelta(days=1))

    def following(self, *, after: datetime, until: datetime) -> Iterator[Period]:
        """Yield the periods due later than `after` and not later than `until`, in order."""
        day = day_of(instant=after, zone=self.zone)
        while (period := self._on(day)).due_at <= until:
            if period.due_at > after:
                yield period
            day += timedelta(days=1)

    def _on(self, day: date) -> Period:
        return Period(day.isoformat(), first_instant_at(day=day, at=self.at, zone=self.zone))


type Run = Callable[[str, datetime], None]
type Steps = Callable[[str, datetime, str], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Job:
    """A declared job, and the steps of its work for a period."""

    kind: str
    schedule: Every | Daily
    catch_up: Literal["all", "latest"]
    steps: Steps


_jobs: dict[str, Job] = {}


def declare(
    *,
    kind: str,
    schedule: Every | Daily,
    run: Run | None = None,
    steps: Steps | None = None,
    catch_up: Literal["all", "latest"] = "latest",
) -> None:
    """
    Declare a job; call from `AppConfig.ready()`. It may be run again for a period.

    `run(period, now)` is for what is over in some seconds, however large the books. Else it has
    `steps(period, now, place)`: it yields a place after each step, of a few seconds at most, and
    may be ended there. Called again, it goes on after the place it is given, `""` for the first
    time; a place has 200 characters at most.

    `all` runs missed periods one by one in order, and a failed one stops the later ones. `latest`
    runs the newest alone: an older one that has not begun by then is given up.

    :raises InvariantBroken: without either, or with both
    """
    if steps is None and run is not None:
        steps = _in_one_step(run)
    elif steps is None or run is not None:
        msg = f"The job {kind!r} has either a run or steps."
        raise InvariantBroken(msg)
    _jobs[kind] = Job(kind, schedule, catch_up, steps)


def _in_one_step(run: Run) -> Steps:
    def steps(period: str, now: datetime, _place: str) -> Iterator[str]:
        run(period, now)
        yield from ()

    return steps


def declared() -> list[Job]:
    """Return every declared job, by kind."""
    return [_jobs[kind] for kind in sorted(_jobs)]


@transactions.outermost
def plan_due(*, now: datetime | None = None) -> int:
    """
    Insert every period that should exist by `now` and is not there; return how many were looked at.

    Two planners at once insert each period once. A clock that went back plans nothing anew.
    """
    until = now or clock.database_now()
    rows = [
        JobRun(kind=job.kind, period=period.name, due_at=period.due_at)
        for job in _jobs.values()
        for period in _missing(job, until)
    ]
    JobRun.objects.bulk_create(rows, ignore_conflicts=True)
    if rows:
        work.nudge(JOBS_KIND)
    return len(rows)


def _missing(job: Job, until: datetime) -> list[Period]:
    last = JobRun.objects.filter(kind=job.kind, scope="").order_by("-due_at").first()
    # A job never seen before begins now: the past it was not there for is not caught up.
    if last is None or job.catch_up == "latest":
        latest = job.schedule.latest(until=until)
        return [latest] if last is None or latest.due_at > last.due_at else []
    return list(islice(job.schedule.following(after=last.due_at, until=until), PERIODS_A_PASS_MAX))


def _run(row: JobRun) -> Record[JobRun]:
    job = _jobs.get(row.kind)
    if job is None:
        return partial(work.mark_undeclared, error_code="job_not_declared")
    if job.catch_up == "latest" and _is_superseded(row):
        return _give_up
    if _must_wait(row, job):
        return partial(
            work.mark_waiting, error_code="waits_for_earlier_period", delay_seconds=_WAIT_SECONDS
        )
    return _take_turn(row, job)


def _take_turn(row: JobRun, job: Job) -> Record[JobRun]:
    """Go on with the job's steps until they or the turn's time are over."""
    ends = monotonic() + working.TURN_SECONDS
    place = None
    try:
        for place in job.steps(row.period, clock.database_now(), row.place):
            if monotonic() > ends:
                return partial(_stop, place=place)
    except working.OutOfTime:
        # The step that took too long is the next turn's first; those before it are not repeated.
        # One that is too long even then is a fault.
        if place is None:
            raise
        log.warning("job_step_cut_off", kind=row.kind, period=row.period, place=place)
        return partial(_stop, place=place)
    failpoints.reach(Failpoint.JOBS_RAN)
    return _finish


def _is_superseded(row: JobRun) -> bool:
    is_under_way = row.turns > 0 and not row.last_error_code
    return not is_under_way and _others(row).filter(due_at__gt=row.due_at).exists()


def _must_wait(row: JobRun, job: Job) -> bool:
    earlier = _others(row).filter(due_at__lt=row.due_at)
    if job.catch_up == "all":
        return earlier.exclude(state=work.WorkState.DONE).exists()
    # Only the latest counts, but an earlier one may be running at this moment, or between turns.
    is_running = Q(state=work.WorkState.LEASED, lease_until__gt=Now())
    return earlier.filter(is_running | _UNDER_WAY).exists()


def _others(row: JobRun) -> QuerySet[JobRun]:
    return JobRun.objects.filter(
        organization_id=row.organization_id, kind=row.kind, scope=row.scope
    )


def _stop(row: JobRun, *, place: str) -> None:
    """Let others have a turn; the row is due now, and goes on after the place."""
    row.turns, row.place = row.turns + 1, place
    row.save(update_fields=["turns", "place"])
    work.mark_continued(row)


def _finish(row: JobRun) -> None:
    row.finished_at = Now()
    row.save(update_fields=["finished_at"])


def _give_up(row: JobRun) -> None:
    # What was given up unrun is done as well, and says so instead of when it ended.
    work.mark_done(row)
    row.last_error_code = "superseded"
    row.save(update_fields=["last_error_code"])


# One at a time: a lease covers one run, and a run that kills its worker takes no other along.
RUNNING: Final = Worker(
    kind=JOBS_KIND,
    model=JobRun,
    task="core.run_jobs",
    queue="default",
    seconds_max=working.LONG_ROWS_SECONDS_MAX,
    perform=_run,
)
