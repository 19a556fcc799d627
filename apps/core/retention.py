"""
What is removed once its time is over: in portions, by jobs. See ADR 0106.

A pass goes along a table's pages, so no index has to be paid for by whoever writes, and removes at
most a thousand rows in one transaction. Of most tables it stops when its time is up; the next one
begins somewhere else and comes round to the beginning, so each page is reached, and no place has to
be kept. Of those that grow with every request it goes on to the end, turn by turn.
"""

import random
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Final

import structlog
from django.db import connection

from apps.core import jobs, transactions

log = structlog.get_logger(__name__)

PORTION: Final = 1000
# About 4 MB: what one statement reads at most.
_PAGES: Final = 512
# Well within the time limit of a job, which may begin two seconds into its task.
PASS_SECONDS: Final = 20.0
_HOUR: Final = jobs.Every(minutes=60)
# A pass over all of a large table reads all of it.
_QUARTER_DAY: Final = jobs.Every(minutes=360)

_PAGE_COUNT: Final = "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::int"
_REMOVE: Final = """
    DELETE FROM "{table}"
     WHERE ctid = ANY(ARRAY(
           SELECT ctid FROM "{table}" AS found
            WHERE ctid >= %(first)s::tid AND ctid < %(beyond)s::tid AND {over}
            LIMIT %(limit)s))
"""
# On the database's clock, as they were made: one worker that is ahead forgets nothing early.
_KEY_IS_OVER: Final = "created_at < now() - interval '30 days'"
_WORK_IS_OVER: Final = """
    state = 'done' AND NOT EXISTS (
        SELECT FROM core_outbox_batch AS batch
         WHERE batch.organization_id = found.organization_id AND batch.id = found.batch_id)
"""
# The newest period is where a planner goes on from, and the newest success is what staff are shown.
_RUN_IS_OVER: Final = """
    state = 'done' AND due_at < now() - interval '90 days' AND EXISTS (
        SELECT FROM core_job_run AS later
         WHERE later.kind = found.kind AND later.scope = found.scope
           AND later.organization_id IS NOT DISTINCT FROM found.organization_id
           AND later.due_at > found.due_at AND later.state = 'done'
           AND later.finished_at IS NOT NULL)
"""


def register_jobs() -> None:
    """Declare the jobs of this app's own tables; called when the app is ready."""
    jobs.declare(
        kind="core.purge_idempotency_keys", schedule=_QUARTER_DAY, steps=purge_idempotency_keys
    )
    jobs.declare(kind="core.purge_event_work", schedule=_QUARTER_DAY, steps=purge_event_work)
    jobs.declare(kind="core.purge_job_runs", schedule=_HOUR, run=purge_job_runs)


def purge_idempotency_keys(_period: str, _now: datetime, place: str) -> Iterator[str]:
    """Forget keys after 30 days; what they made has references of its own."""
    return purge_all("core_idempotency_key", over=_KEY_IS_OVER, place=place)


def purge_event_work(_period: str, _now: datetime, place: str) -> Iterator[str]:
    """Remove what consumers are done with, once the events themselves are gone."""
    return purge_all("core_event_work", over=_WORK_IS_OVER, place=place)


def purge_job_runs(_period: str, _now: datetime) -> None:
    """Remove the periods that ran, or were given up, more than 90 days ago; not a job's newest."""
    purge("core_job_run", over=_RUN_IS_OVER)


def purge_all(table: str, *, over: str, place: str) -> Iterator[str]:
    """
    Remove the rows for which `over` holds, stretch by stretch; yield the page each ends before.

    For tables that grow by thousands of rows a second: the steps of a job, which goes on after the
    page it is given until it has seen all of them once, however many turns that takes.
    """
    pages, removed = _count_pages(table), 0
    for first in range(int(place or 0), pages, _PAGES):
        stretch = f"({first},0)", f"({first + _PAGES},0)"
        while count := _remove(table, over, *stretch):
            removed += count
            if count < PORTION:
                break
        yield str(first + _PAGES)
    if removed:
        log.info("rows_purged", table=table, removed=removed)


def purge(table: str, *, over: str, seconds: float = PASS_SECONDS) -> int:
    """
    Remove the rows for which `over` holds, SQL about a row called `found`; return how many.

    Each portion is a transaction of its own, so whoever is stopped has lost nothing.
    """
    return go_along(table, partial(_remove, table, over), seconds=seconds)


def go_along(
    table: str, remove: Callable[[str, str], int], *, seconds: float = PASS_SECONDS
) -> int:
    """
    Call `remove(first, beyond)` for stretches of a table until the time is up; return how many.

    It looks at the rows whose `ctid` is at least `first` and below `beyond`, removes some of them
    in a transaction and returns how many. It is called for them again until there were none.
    """
    begun, removed = time.monotonic(), 0
    for first in _stretches(table):
        while time.monotonic() - begun < seconds:
            count = remove(f"({first},0)", f"({first + _PAGES},0)")
            removed += count
            if not count:
                break
    if removed:
        log.info("rows_purged", table=table, removed=removed)
    return removed


def _stretches(table: str) -> list[int]:
    """Return where stretches of the table begin, from any of them on and round."""
    starts = list(range(0, _count_pages(table), _PAGES))
    cut = random.randrange(len(starts)) if starts else 0  # noqa: S311  (a place, not a secret)
    return starts[cut:] + starts[:cut]


def _count_pages(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_PAGE_COUNT, [table])
        [(pages,)] = cursor.fetchall()
    return int(pages)


@transactions.outermost
def _remove(table: str, over: str, first: str, beyond: str) -> int:
    # The names are ours, from this app and those above it.
    sql = _REMOVE.format(table=table, over=over)
    with connection.cursor() as cursor:
        cursor.execute(sql, {"first": first, "beyond": beyond, "limit": PORTION})
        removed: int = cursor.rowcount
    return removed
