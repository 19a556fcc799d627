"""
Scheduled jobs: a row per period, inserted by whoever plans first and worked like any work row.

Beat only says "look now". A planner computes every period that should exist and is not there, so a
day without beat is caught up, and two beats make one run.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from django.db.models import Q

from apps.core import clock, transactions, work
from apps.core.models import JobRun

log = structlog.get_logger(__name__)

JOBS_KIND: Final = "core.jobs"
PERIODS_A_PASS_MAX: Final = 100
_LEASE_SECONDS: Final = 135


@dataclass(frozen=True, slots=True)
class Every:
    """A job that runs each `minutes`, on the grid of the Unix epoch."""

    minutes: int

    def periods(self, *, after: datetime, until: datetime) -> Iterator[tuple[str, datetime]]:
        step = self.minutes * 60
        tick = int(after.timestamp()) // step * step + step
        while tick <= until.timestamp():
            instant = datetime.fromtimestamp(tick, UTC)
            yield instant.strftime("%Y-%m-%dT%H:%MZ"), instant
            tick += step


@dataclass(frozen=True, slots=True)
class Daily:
    """A job that runs once a local date, at a wall-clock time of an IANA zone."""

    at: time
    zone: str

    def periods(self, *, after: datetime, until: datetime) -> Iterator[tuple[str, datetime]]:
        zone = ZoneInfo(self.zone)
        day = after.astimezone(zone).date()
        while True:
            # A time skipped by a clock change is read as the instant after the gap.
            instant = datetime.combine(day, self.at, tzinfo=zone).astimezone(UTC)
            if instant > until:
                return
            if instant > after:
                yield day.isoformat(), instant
            day += timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Job:
    """A declared job. `run(period, now)` calls one operation and may be run again."""

    kind: str
    schedule: Every | Daily
    catch_up: Literal["all", "latest"]
    run: Callable[[str, datetime], None]


_jobs: dict[str, Job] = {}


def declare(
    *,
    kind: str,
    schedule: Every | Daily,
    run: Callable[[str, datetime], None],
    catch_up: Literal["all", "latest"] = "latest",
) -> None:
    """Declare a job; call from `AppConfig.ready()`. `all` runs missed periods in order."""
    _jobs[kind] = Job(kind, schedule, catch_up, run)


def register_work_kind() -> None:
    work.register_kind(name=JOBS_KIND, model=JobRun, task="core.run_jobs", queue="default")


@transactions.outermost
def plan_due(*, now: datetime | None = None) -> int:
    """Insert every period that should exist by `now` and is not there; return how many."""
    until = now or clock.now()
    rows = [row for job in _jobs.values() for row in _missing(job, until)]
    JobRun.objects.bulk_create(rows, ignore_conflicts=True)
    if rows:
        work.nudge(JOBS_KIND)
    return len(rows)


def _missing(job: Job, until: datetime) -> list[JobRun]:
    last = JobRun.objects.filter(kind=job.kind, scope="").order_by("-period").first()
    # A job never seen before begins now: its first period is the latest one.
    after = last.created_at if last else until - timedelta(days=1, minutes=1)
    periods = list(job.schedule.periods(after=after - timedelta(days=1), until=until))
    known = set(
        JobRun.objects.filter(
            kind=job.kind, scope="", period__in=[name for name, _ in periods]
        ).values_list("period", flat=True)
    )
    missing = [name for name, _ in periods if name not in known]
    if last is None or job.catch_up == "latest":
        missing = missing[-1:]
        # Older gaps of a "latest" job are not run late, and not planned again either.
        missing = [name for name in missing if not known or name > max(known)]
    return [JobRun(kind=job.kind, period=name) for name in missing[:PERIODS_A_PASS_MAX]]


def run_due(*, limit: int = 20) -> int:
    """Run due periods; return how many were tried."""
    claimed = work.claim_due(JobRun, limit=limit, lease_seconds=_LEASE_SECONDS)
    for row in sorted(claimed, key=lambda row: row.period):
        _run_row(row)
    return len(claimed)


def _run_row(row: JobRun) -> None:
    job = _jobs.get(row.kind)
    error_code = ""
    if job is None:
        error_code = "job_not_declared"
    elif _has_open_predecessor(row):
        error_code = "waits_for_earlier_period"
    else:
        try:
            job.run(row.period, clock.now())
        # The boundary: one job's fault delays its own periods only; the row records it.
        except Exception:
            log.exception("job_failed", kind=row.kind, period=row.period)
            error_code = "job_failed"
    _record(row_id=row.id, lease_token=row.lease_token, error_code=error_code)


def _has_open_predecessor(row: JobRun) -> bool:
    return (
        JobRun.objects.filter(kind=row.kind, scope=row.scope, period__lt=row.period)
        .filter(~Q(state=work.WorkState.DONE))
        .exists()
    )


@transactions.outermost
def _record(*, row_id: UUID, lease_token: UUID | None, error_code: str) -> None:
    row = work.lock_leased(JobRun, organization_id=None, row_id=row_id, lease_token=lease_token)
    if row is None:
        return
    if error_code:
        work.mark_retry(row, error_code=error_code)
        return
    work.mark_done(row)
    row.finished_at = clock.now()
    row.save(update_fields=["finished_at"])
