"""
What of the durable work stands still, for people to look at: rows by kind, jobs by period.

Each read is one statement over every registered kind, walks the partial indexes of open and of set
aside rows, and stops at a bound: rows that are done are never looked at, however many there are.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any, Final
from uuid import UUID

from django.db import connection

from apps.core import jobs, work
from apps.core.jobs import Job

COUNT_MAX: Final = 1000
# An open row due for longer than this is overdue: no worker takes it, or each one that does dies.
OVERDUE_SECONDS: Final = 120
PERIODS_COUNTED_MAX: Final = 10_000
MISSED_COUNTED_MAX: Final = 100
# The planner looks each quarter of a minute; a period that just began is not missed yet.
_PLANNED_WITHIN: Final = timedelta(seconds=60)


class Standing(StrEnum):
    """How a row stands that is not done."""

    QUARANTINED = "quarantined"
    OVERDUE = "overdue"
    FAILED = "failed"
    PAUSED = "paused"
    DUE = "due"
    WAITING = "waiting"
    LEASED = "leased"


# What waits for a person. A failed row was given up by a policy, and a paused one by somebody.
STUCK: Final = (Standing.QUARANTINED, Standing.OVERDUE)
_OPEN: Final = frozenset({Standing.OVERDUE, Standing.DUE, Standing.WAITING, Standing.LEASED})

# `statement_timestamp` does not change within a statement, so that an index can be walked by it.
# A lease that holds has its end in `next_attempt_at`, so what is due was never claimed or lapsed.
_STANDING: Final = """
    CASE WHEN next_attempt_at <= statement_timestamp() - %(overdue)s THEN 'overdue'
         WHEN next_attempt_at <= statement_timestamp() THEN 'due'
         WHEN state = 'leased' THEN 'leased' ELSE 'waiting' END
"""
_OPEN_ROWS: Final = f"""
    (SELECT {_STANDING} AS standing, next_attempt_at FROM {{table}}
      WHERE state IN ('pending', 'leased') {{narrowed}} ORDER BY next_attempt_at LIMIT %(limit)s)
"""  # noqa: S608  (nothing of it comes from outside)
_SET_ASIDE_ROWS: Final = """
    (SELECT '{state}' AS standing, next_attempt_at FROM {table}
      WHERE state = '{state}' {narrowed} ORDER BY next_attempt_at LIMIT %(limit)s)
"""
_COUNT: Final = """
    SELECT '{kind}', standing, COUNT(*), MIN(next_attempt_at)
      FROM ({parts}) AS part GROUP BY standing
"""
_LIST: Final = """
    (SELECT '{kind}', id, organization_id, '{standing}', attempts, lapses, last_error_code,
            next_attempt_at
       FROM {table} WHERE {chosen} {narrowed} ORDER BY next_attempt_at LIMIT %(limit)s)
"""
_ORDERED: Final = "SELECT * FROM ({parts}) AS found ORDER BY 8, 2 LIMIT %(limit)s"
_OVERDUE: Final = (
    "state IN ('pending', 'leased') AND next_attempt_at <= statement_timestamp() - %(overdue)s"
)
# A platform's own work, such as a job, belongs to no organization and is everybody's to mend.
_OF_THESE: Final = "AND (organization_id IS NULL OR organization_id = ANY(%(organizations)s))"


@dataclass(frozen=True, slots=True)
class Depth:
    """How many rows of a kind stand in one way, at most one more than the bound, and the oldest."""

    number: int
    oldest_due_at: datetime


@dataclass(frozen=True, slots=True)
class KindStanding:
    """How the rows of one kind stand that are not done."""

    name: str
    queue: str
    depths: dict[Standing, Depth] = field(default_factory=dict)

    def number(self, *standings: Standing) -> int:
        """Return how many stand in these ways."""
        return sum(depth.number for at, depth in self.depths.items() if at in standings)

    @property
    def is_cut(self) -> bool:
        """Say whether only the open rows that are due first were counted."""
        return self.number(*_OPEN) > COUNT_MAX

    @property
    def oldest_due_at(self) -> datetime | None:
        """Return since when the open row that waits longest has been due, if one is."""
        due = [self.depths[at] for at in (Standing.OVERDUE, Standing.DUE) if at in self.depths]
        return min((depth.oldest_due_at for depth in due), default=None)


@dataclass(frozen=True, slots=True)
class StuckRow:
    """One row that stands still, of any kind."""

    kind: str
    id: UUID
    organization_id: UUID | None
    standing: Standing
    attempts: int
    lapses: int
    error_code: str
    due_at: datetime


def count_work(
    *, organization_ids: Collection[UUID] | None, number_max: int = COUNT_MAX
) -> list[KindStanding]:
    """
    Return how the rows of every registered kind stand, by name; those of these organizations.

    None means of all. What belongs to no organization is counted in any case. Of a kind's open
    rows, and of those in each other state, no more than one above `number_max` are looked at.
    """
    found = {kind.name: KindStanding(kind.name, kind.queue) for kind in work.kinds()}
    for name, standing, number, oldest in _run(
        " UNION ALL ".join(_count_of(kind, organization_ids) for kind in work.kinds()),
        organization_ids,
        limit=number_max + 1,
    ):
        found[name].depths[Standing(standing)] = Depth(number, oldest)
    return list(found.values())


def list_stuck(
    *,
    organization_ids: Collection[UUID] | None,
    limit: int,
    kind_name: str = "",
    standings: Sequence[Standing] = STUCK,
) -> list[StuckRow]:
    """
    Return the rows that stand in these ways, those due first at the head, at most `limit`.

    A `standing` is one that waits for a person: set aside in one of three ways, or overdue.
    """
    kinds = [kind for kind in work.kinds() if kind_name in {"", kind.name}]
    parts = [_list_of(kind, one, organization_ids) for kind in kinds for one in standings]
    if not parts:
        return []
    ordered = _ORDERED.format(parts=" UNION ALL ".join(parts))
    return [
        StuckRow(kind, id_, owner, Standing(standing), *rest)
        for kind, id_, owner, standing, *rest in _run(ordered, organization_ids, limit=limit)
    ]


def _count_of(kind: work.Kind, organization_ids: Collection[UUID] | None) -> str:
    table, narrowed = f'"{kind.model._meta.db_table}"', _narrowed(kind, organization_ids)
    parts = [_OPEN_ROWS.format(table=table, narrowed=narrowed)] + [
        _SET_ASIDE_ROWS.format(table=table, narrowed=narrowed, state=state)
        for state in work.SET_ASIDE
    ]
    return _COUNT.format(kind=kind.name, parts=" UNION ALL ".join(parts))


def _list_of(kind: work.Kind, standing: Standing, organization_ids: Collection[UUID] | None) -> str:
    chosen = _OVERDUE if standing is Standing.OVERDUE else f"state = '{standing}'"
    return _LIST.format(
        kind=kind.name,
        standing=standing,
        table=f'"{kind.model._meta.db_table}"',
        chosen=chosen,
        narrowed=_narrowed(kind, organization_ids),
    )


def _narrowed(kind: work.Kind, organization_ids: Collection[UUID] | None) -> str:
    own = f"AND {kind.condition}" if kind.condition else ""
    return own if organization_ids is None else f"{own} {_OF_THESE}"


def _run(
    sql: str, organization_ids: Collection[UUID] | None, *, limit: int
) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        # Names of kinds, tables and states are ours; what a caller gives is a parameter.
        values: dict[str, Any] = {
            "organizations": list(organization_ids or ()),
            "limit": limit,
            "overdue": timedelta(seconds=OVERDUE_SECONDS),
        }
        cursor.execute(sql, values)
        return list(cursor.fetchall())


# --- Jobs ---------------------------------------------------------------------------------------

_LATEST: Final = """
    SELECT job.kind, planned.due_at, success.finished_at
      FROM unnest(%(kinds)s::text[]) AS job(kind)
      LEFT JOIN LATERAL (
          SELECT due_at FROM core_job_run AS run
           WHERE run.kind = job.kind AND run.scope = ''
           ORDER BY due_at DESC LIMIT 1
      ) AS planned ON true
      LEFT JOIN LATERAL (
          SELECT finished_at FROM core_job_run AS run
           WHERE run.kind = job.kind AND run.scope = ''
             AND run.state = 'done' AND run.finished_at IS NOT NULL
           ORDER BY due_at DESC LIMIT 1
      ) AS success ON true
"""
_UNDONE: Final = """
    SELECT kind, state, COUNT(*), MIN(due_at), (array_agg(id ORDER BY due_at))[1]
      FROM (
          (SELECT id, kind, state, due_at FROM core_job_run
            WHERE state IN ('pending', 'leased') ORDER BY next_attempt_at LIMIT %(limit)s)
          UNION ALL
          (SELECT id, kind, 'set_aside', due_at FROM core_job_run
            WHERE state IN ('quarantined', 'failed', 'paused') LIMIT %(limit)s)
      ) AS undone
     GROUP BY kind, state
"""


@dataclass(slots=True)
class JobStanding:
    """
    How one declared job stands: its last success, and its periods that are not done.

    `missed` are periods that should exist and that nobody planned, at most a hundred counted.
    """

    job: Job
    next_due_at: datetime | None
    last_success_at: datetime | None = None
    waiting: int = 0
    running: int = 0
    set_aside: int = 0
    missed: int = 0
    is_planned: bool = False
    oldest_undone_at: datetime | None = None
    first_set_aside_id: UUID | None = None

    @property
    def is_stopped(self) -> bool:
        """Say whether nothing of it will run until a person releases a period."""
        return self.job.catch_up == "all" and self.set_aside > 0

    def is_late(self, *, now: datetime) -> bool:
        """Say whether its last success, or else its oldest period, is older than two periods."""
        since = self.last_success_at or self.oldest_undone_at
        span = timedelta(seconds=2 * self.job.schedule.seconds)
        return self.missed > 1 or (since is not None and now - since > span)


def list_jobs(*, now: datetime) -> list[JobStanding]:
    """Return how every declared job stands, by kind."""
    found = {job.kind: JobStanding(job, _next_due(job, now)) for job in jobs.declared()}
    with connection.cursor() as cursor:
        cursor.execute(_LATEST, {"kinds": list(found)})
        for kind, planned_at, finished_at in cursor.fetchall():
            one = found[kind]
            one.last_success_at = finished_at
            one.is_planned = planned_at is not None
            one.missed = _count_missed(one.job, planned_at, now)
        cursor.execute(_UNDONE, {"limit": PERIODS_COUNTED_MAX + 1})
        for kind, state, number, oldest, first_id in cursor.fetchall():
            # A period of a job that this release does not know is among the stuck rows alone.
            if kind in found:
                _add_undone(found[kind], state, number, oldest, first_id)
    return list(found.values())


def _add_undone(one: JobStanding, state: str, number: int, oldest: datetime, first: UUID) -> None:
    one.oldest_undone_at = min(oldest, one.oldest_undone_at or oldest)
    if state == work.WorkState.PENDING:
        one.waiting = number
    elif state == work.WorkState.LEASED:
        one.running = number
    else:
        one.set_aside, one.first_set_aside_id = number, first


def _next_due(job: Job, now: datetime) -> datetime | None:
    ahead = now + timedelta(seconds=2 * job.schedule.seconds)
    period = next(job.schedule.following(after=now, until=ahead), None)
    return None if period is None else period.due_at


def _count_missed(job: Job, planned_at: datetime | None, now: datetime) -> int:
    if planned_at is None:
        return 0
    missed = job.schedule.following(after=planned_at, until=now - _PLANNED_WITHIN)
    return sum(1 for _ in islice(missed, MISSED_COUNTED_MAX))
