"""Celery entry of the core: look for due work. Every task may be lost, doubled or late."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from celery import shared_task

from apps.core import heartbeats, jobs, outbox, work

if TYPE_CHECKING:
    from celery import Task

# Then another message goes on, so that no task comes near its time limit.
TASK_SECONDS_MAX: Final = 30.0


@shared_task(name="core.sweep")
def sweep(**_: object) -> None:
    """Enqueue the task of each kind that has due rows. It needs no broker memory."""
    for kind in work.due_kinds():
        work.enqueue(kind)


@shared_task(name="core.relay")
def relay(**_: object) -> None:
    """Number committed batches and hand them to their consumers, until none is due."""
    _work_until_idle(outbox.relay, kind=outbox.RELAY_KIND)


@shared_task(name="core.consume")
def consume(**_: object) -> None:
    """Work the consumers' due batches, until none is due."""
    _work_until_idle(outbox.consume, kind=outbox.CONSUME_KIND)


@shared_task(name="core.plan_jobs")
def plan_jobs(**_: object) -> None:
    """Insert the periods of every declared job that should exist by now."""
    jobs.plan_due()


@shared_task(name="core.run_jobs")
def run_jobs(**_: object) -> None:
    """Run due periods of declared jobs, until none is due."""
    _work_until_idle(jobs.run_due, kind=jobs.JOBS_KIND)


@shared_task(name=heartbeats.TASK, bind=True)
def heartbeat(self: "Task[..., None]", queue: str, **_: object) -> None:
    """Write down that the queue's workers run its tasks; its supervisor asks (ADR 0101)."""
    heartbeats.record_beat(queue=queue, worker=str(self.request.hostname))


def _work_until_idle(look: Callable[[], int], *, kind: str) -> None:
    begun = time.monotonic()
    while look():
        if time.monotonic() - begun > TASK_SECONDS_MAX:
            work.nudge(kind)
            return
