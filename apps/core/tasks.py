"""Celery entry of the core: look for due work. Every task may be lost, doubled or late."""

from celery import shared_task

from apps.core import jobs, outbox, work


@shared_task(name="core.sweep")
def sweep(**_: object) -> None:
    """Enqueue the task of each kind that has due rows. It needs no broker memory."""
    for kind in work.due_kinds():
        work.enqueue(kind)


@shared_task(name="core.relay")
def relay(**_: object) -> None:
    """Number committed batches and hand them to their consumers, until none is due."""
    while outbox.relay():
        pass


@shared_task(name="core.consume")
def consume(**_: object) -> None:
    """Work the consumers' due batches."""
    while outbox.consume():
        pass


@shared_task(name="core.plan_jobs")
def plan_jobs(**_: object) -> None:
    """Insert the periods of every declared job that should exist by now."""
    jobs.plan_due()


@shared_task(name="core.run_jobs")
def run_jobs(**_: object) -> None:
    """Run due periods of declared jobs."""
    jobs.run_due()
