"""Celery entry of the core: look for due work. Every task may be lost, doubled or late."""

import math
import time
from typing import TYPE_CHECKING, Final

from celery import shared_task

from apps.core import heartbeats, jobs, outbox, work, working
from apps.core.models import OutboxBatch

if TYPE_CHECKING:
    from celery import Task

# What beat says each second may have piled up for hours while no worker was there: then one of many
# says it all, and the rest costs little.
_LOOK_SECONDS_MIN: Final = 0.5
_looked_at: dict[str, float] = {}

consume: Final = working.register(outbox.CONSUMING)
run_jobs: Final = working.register(jobs.RUNNING)
work.register_kind(
    work.Kind(outbox.RELAY_KIND, OutboxBatch, "core.relay", "events", outbox.HARD_SECONDS)
)


@shared_task(name="core.sweep")
def sweep(**_: object) -> None:
    """Have workers look for each kind of work that has due rows."""
    if not _has_just_looked("sweep"):
        work.sweep()


@shared_task(name="core.relay", **working.limits(outbox.HARD_SECONDS))
def relay(**_: object) -> None:
    """Number committed batches and hand them to their consumers, until none is due."""
    # Worked by organization and not row by row: one lock numbers all that one has.
    working.until_idle(outbox.relay, kind=outbox.RELAY_KIND)


@shared_task(name="core.plan_jobs")
def plan_jobs(**_: object) -> None:
    """Insert the periods of every declared job that should exist by now."""
    if not _has_just_looked("plan_jobs"):
        jobs.plan_due()


def _has_just_looked(what: str) -> bool:
    """Say whether this process did so a moment ago; else it does now."""
    now = time.monotonic()
    if now - _looked_at.get(what, -math.inf) < _LOOK_SECONDS_MIN:
        return True
    _looked_at[what] = now
    return False


@shared_task(name=heartbeats.TASK, bind=True)
def heartbeat(self: "Task[..., None]", queue: str, **_: object) -> None:
    """Write down that the queue's workers run its tasks; its supervisor asks (ADR 0101)."""
    heartbeats.record_beat(queue=queue, worker=str(self.request.hostname))
