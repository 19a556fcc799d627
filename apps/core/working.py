"""
Working durable work: one way for every kind, which brings its rows and an operation.

A `Worker` says how many due rows are claimed and for how long, and what is done with one. The rest
is the same for all: leases, retries, quarantine, the Celery task, the sweeper, the page of stuck
work. The README has the recipe.
"""

import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypedDict
from uuid import UUID

import structlog
from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded

from apps.core import context, counters, transactions, work
from apps.core.errors import OutsideCallError
from apps.core.work import WorkRow, WorkState

log = structlog.get_logger(__name__)

# So long before its hard limit work is told by an exception: time enough to record that.
_WARNING_SECONDS: Final = 5
# Then no other row is begun and another message goes on, so that each has most of the limit.
TASK_SECONDS_MAX: Final = 10.0
# The same where one row may need nearly all of its limit: it has 25 s until it is warned.
LONG_ROWS_SECONDS_MAX: Final = 2.0
# After so long work that can be cut in portions stops; its row is due at once, for the next ones.
TURN_SECONDS: Final = 10.0
# The exception by which work is told that its time is over. It is an `Exception`: a boundary that
# goes on to the next piece of work lets it through first, or the task goes on until it is killed.
OutOfTime: Final = SoftTimeLimitExceeded
_SECONDS: Final = counters.Histogram(
    "kassa_work_seconds",
    "How long rows of work took, and what came of them.",
    ("kind", "outcome"),
    (0.01, 0.1, 1, 10, 30),
)
# By kind, whose rows the last claim of this process had no time for, who waits longest first.
_passed_over: dict[str, dict[Hashable, int]] = {}

type Record[M: WorkRow] = Callable[[M], object]


def recorded(_row: WorkRow) -> None:
    """Say, as what `perform` returns, that it has recorded the outcome itself."""


def at_once[M: WorkRow](effect: Record[M]) -> Callable[[M], Record[M]]:
    """Return the `perform` of work that is all database: its effect and `done` commit together."""
    return lambda _row: effect


def put_off(row: WorkRow, fault: Exception) -> None:
    """Have the row tried again by the policy of all work, until it is quarantined."""
    work.mark_retry(row, error_code=type(fault).__name__[:64])


@dataclass(frozen=True, slots=True, kw_only=True)
class Together[M: WorkRow]:
    """
    What came of rows that were worked together; what is not told of here is done.

    Those `left` are to be worked row by row. Others only wait (`put_off`), or were another
    worker's by then (`lost`).
    """

    left: Sequence[M] = ()
    put_off: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker[M: WorkRow]:
    """
    How the rows of one kind are worked.

    `perform(row)` runs with no transaction open. What it returns is called with the row, locked,
    in the transaction that records the outcome; a row that is still leased after it is done, and
    so is one for which None was returned. If either raises, `put_off(row, fault)` is recorded.

    `batch` rows are claimed together, or what `claim` claims. Their lease is 15 s longer than
    `hard_seconds`, after which the task is killed; threads are not, so there `perform` keeps to it
    itself. In a task no row is begun after `seconds_max`.

    Of rows that are `alike` many may cost hardly more than one. They are given to `together`, with
    no transaction open; those that it says are `left`, or all if it raises, are worked row by row.
    None is like no other, and so is to be what was tried before.

    What is claimed together is worked in turns, one of each in whose `turn` it is: an organization,
    where the kind says nothing else.
    """

    kind: str
    model: type[M]
    task: str
    queue: str
    perform: Callable[[M], Record[M] | None]
    hard_seconds: int = work.HARD_SECONDS
    in_threads: bool = False
    put_off: Callable[[M, Exception], object] = put_off
    claim: Callable[[], list[M]] | None = None
    alike: Callable[[M], Hashable] = lambda _row: None
    together: Callable[[list[M]], Together[M]] | None = None
    turn: Callable[[M], Hashable] = lambda row: getattr(row, "organization_id", None)
    batch: int = 1
    seconds_max: float = TASK_SECONDS_MAX
    condition: str = ""

    @property
    def lease_seconds(self) -> int:
        """Return for how long a claimed row is the claimant's."""
        return work.lease_of(self.hard_seconds)


class Limits(TypedDict, total=False):
    """What a Celery task is declared with; nothing where the common limits hold."""

    soft_time_limit: int
    time_limit: int


def limits(hard_seconds: int) -> Limits:
    """Return the limits of a Celery task whose work has this hard one."""
    return {"soft_time_limit": hard_seconds - _WARNING_SECONDS, "time_limit": hard_seconds}


def register[M: WorkRow](worker: Worker[M]) -> Callable[..., int]:
    """
    Have due rows of this kind found and worked; return the Celery task that does it.

    Called where the app's `tasks` are imported, which its `AppConfig.ready()` sees to: whoever
    adds a row nudges its kind, in whatever process.
    """
    work.register_kind(
        work.Kind(
            worker.kind,
            worker.model,
            worker.task,
            worker.queue,
            worker.hard_seconds,
            worker.in_threads,
            worker.condition,
        )
    )

    def work_due(**_: object) -> int:
        """Work what is due, until nothing is."""
        return run(worker)

    limited: Limits = {} if worker.in_threads else limits(worker.hard_seconds)
    task: Callable[..., int] = shared_task(name=worker.task, **limited)(work_due)
    return task


def run[M: WorkRow](worker: Worker[M]) -> int:
    """Work what is due until nothing is, or the time is over; return how many were claimed."""
    ends = time.monotonic() + worker.seconds_max
    return until_idle(partial(work_due, worker, ends=ends), kind=worker.kind, ends=ends)


def until_idle(look: Callable[[], int], *, kind: str, ends: float | None = None) -> int:
    """
    Call until nothing was found, or tell another worker to go on; return how much was found.

    Whoever was told to look and found nothing at all says so: one message may come several times,
    and one hint of many is late.
    """
    ends = ends or time.monotonic() + TASK_SECONDS_MAX
    found = 0
    while some := look():
        found += some
        if time.monotonic() > ends:
            work.nudge(kind)
            break
    if not found:
        log.info("work_not_due", kind=kind)
    return found


def work_due[M: WorkRow](
    worker: Worker[M], *, limit: int | None = None, ends: float | None = None
) -> int:
    """Claim what is due once, and work it in turns; return how many rows were claimed."""
    begun = time.monotonic()
    claimed = _claim(worker, limit or worker.batch)
    ends = min(ends or begun + worker.seconds_max, begun + worker.hard_seconds)
    turns = _Turns(worker, _groups(worker, claimed))
    while turns.groups:
        # The first is always worked. Others may be another worker's before they were begun.
        if turns.had and time.monotonic() > ends:
            turns.give_back()
            break
        turns.work_next()
    else:
        _passed_over.pop(worker.kind, None)
    return len(claimed)


@dataclass(slots=True)
class _Turns[M: WorkRow]:
    """What one claim brought and is not worked yet, and who had how many turns of it."""

    worker: Worker[M]
    groups: list[list[M]]
    had: Counter[Hashable] = field(default_factory=Counter)
    failed: set[UUID] = field(default_factory=set)

    def work_next(self) -> None:
        """Work a group of whoever had the fewest turns."""
        group = min(self.groups, key=self._place)
        self.groups.remove(group)
        self.had[self.worker.turn(group[0])] += 1
        if len(group) == 1:
            with context.in_trace(group[0].traceparent):
                work_row(self.worker, group[0])
        else:
            self.groups[:0] = [[row] for row in self._work_together(group)]

    def give_back(self) -> None:
        """Let go of what there was no time for; who had no turn at all is first the next time."""
        waiting = [self.worker.turn(group[0]) for group in sorted(self.groups, key=self._place)]
        none_had = dict.fromkeys(whose for whose in waiting if not self.had[whose])
        _passed_over[self.worker.kind] = {whose: place for place, whose in enumerate(none_had)}
        rows = [row for group in self.groups for row in group]
        model = self.worker.model
        work.give_back(model, [row for row in rows if row.id not in self.failed])
        work.give_back(model, [row for row in rows if row.id in self.failed], is_tried=True)

    def _place(self, group: list[M]) -> tuple[bool, int, int]:
        whose = self.worker.turn(group[0])
        waited = _passed_over.get(self.worker.kind, {})
        # What lapsed may be what kills workers: nothing is to lapse beside it.
        return group[0].lapses > 0, self.had[whose], waited.get(whose, len(waited))

    def _work_together(self, group: list[M]) -> Sequence[M]:
        """Work rows that are alike; return those that are to be worked one by one."""
        assert self.worker.together is not None  # noqa: S101  (else no two are alike)
        begun = time.monotonic()
        try:
            told = self.worker.together(group)
        # The boundary: one of them is to blame and is not known. Nothing was recorded of any.
        except Exception:
            log.exception("work_split", kind=self.worker.kind, size=len(group))
            self.failed.update(row.id for row in group)
            return group
        ended = {"put_off": told.put_off, "lost": told.lost}
        ended["done"] = len(group) - len(told.left) - sum(ended.values())
        # What is left is counted with what came of it, and has no share of this.
        each = (time.monotonic() - begun) / (sum(ended.values()) or 1)
        for outcome, rows in ended.items():
            count(each * rows, kind=self.worker.kind, outcome=outcome, rows=rows)
        return told.left


def _groups[M: WorkRow](worker: Worker[M], claimed: Sequence[M]) -> list[list[M]]:
    """Return rows that are alike together, in the order of the first of each."""
    groups: dict[Hashable, list[M]] = {}
    for row in claimed:
        key = worker.alike(row) if worker.together else None
        groups.setdefault(row.id if key is None else key, []).append(row)
    return list(groups.values())


def _claim[M: WorkRow](worker: Worker[M], limit: int) -> list[M]:
    if worker.claim is not None:
        return worker.claim()
    return work.claim_due(worker.model, limit=limit, lease_seconds=worker.lease_seconds)


def work_row[M: WorkRow](worker: Worker[M], claimed: M) -> None:
    """Perform one leased row and record what came of it, or the fault it met."""
    begun = time.monotonic()
    outcome = _perform(worker, claimed)
    count(time.monotonic() - begun, kind=worker.kind, outcome=outcome)


def count(seconds: float, *, kind: str, outcome: str, rows: int = 1) -> None:
    """Count worked rows, each with its share of the time that all of them took."""
    if rows:
        _SECONDS.observe(seconds / rows, times=rows, kind=kind, outcome=outcome)


def _perform[M: WorkRow](worker: Worker[M], claimed: M) -> str:
    """Return what came of the row: `recorded`, `away`, `fault`, or what `_record` says."""
    try:
        record = worker.perform(claimed)
        return "recorded" if record is recorded else _record(worker, claimed, record)
    # That the other side is away is no fault of ours: its row waits, and nobody is paged.
    except OutsideCallError as away:
        log.warning(
            "work_put_off", kind=worker.kind, row_id=str(claimed.id), fault=type(away).__name__
        )
        _record_fault(worker, claimed, away)
        return "away"
    # The boundary: one poison row must not hold up the others. Its row records the fault.
    except Exception as fault:
        log.exception("work_failed", kind=worker.kind, row_id=str(claimed.id))
        _record_fault(worker, claimed, fault)
        return "fault"


def _record_fault[M: WorkRow](worker: Worker[M], claimed: M, fault: Exception) -> None:
    _record(worker, claimed, lambda row: worker.put_off(row, fault))


@transactions.outermost
def _record[M: WorkRow](worker: Worker[M], claimed: M, record: Record[M] | None) -> str:
    """Return the row's state by now, or `lost`, `put_off` or `continued`."""
    row = work.lock_leased(
        worker.model,
        organization_id=getattr(claimed, "organization_id", None),
        row_id=claimed.id,
        lease_token=claimed.lease_token,
    )
    if row is None:
        # Another worker took it over, new work came, or the operation has recorded it itself.
        log.info("work_not_held", kind=worker.kind, row_id=str(claimed.id))
        return "lost"
    if record is not None:
        record(row)
    if row.state == WorkState.LEASED:
        work.mark_done(row)
    if row.state == WorkState.PENDING:
        # Of what was cut in portions one is done, and nothing went wrong.
        return "put_off" if row.last_error_code else "continued"
    return str(row.state)
