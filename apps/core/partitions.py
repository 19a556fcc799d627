"""
Weeks of events: made ahead of their time, and dropped once they have had it. See ADR 0107.

How a part of a table is made and dropped is in the database (migration 0008), where it runs as the
owner of the tables: whoever may write events owns none of them. When, is decided here.
"""

from collections.abc import Callable
from datetime import datetime, time, timedelta
from typing import Final
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection

from apps.core import jobs, queries, transactions
from apps.core.errors import InvariantBroken
from apps.core.ids import first_id

log = structlog.get_logger(__name__)

# Locked in the order in which a transaction writes them.
TABLES: Final = ("core_outbox_batch", "core_outbox_event")
_WEEKS_AHEAD: Final = 4

# Up to where both tables can be cut between two parts, if anything lies below.
_EDGE: Final = """
    WITH part AS (
        SELECT kassa_partition_beyond(inhrelid) AS beyond FROM pg_inherits
         WHERE inhparent = 'core_outbox_event'::regclass
        INTERSECT
        SELECT kassa_partition_beyond(inhrelid) FROM pg_inherits
         WHERE inhparent = 'core_outbox_batch'::regclass
    ), edge AS (
        SELECT beyond FROM part
         WHERE beyond <= kassa_first_id(%(before)s) ORDER BY beyond DESC LIMIT 1
    )
    SELECT kassa_made_at(beyond) FROM edge
     WHERE EXISTS (SELECT FROM part WHERE part.beyond < edge.beyond)
        OR EXISTS (SELECT FROM core_outbox_batch WHERE id < edge.beyond)
        OR EXISTS (SELECT FROM core_outbox_event WHERE id < edge.beyond)
"""
# A look into an index of the parts that go for each feed, however many batches lie in them.
_NOTE: Final = """
    UPDATE core_feed_head AS head
       SET dropped_position = greatest(head.dropped_position, gone.position), kept_since = %(edge)s
      FROM core_feed_head AS feed
     CROSS JOIN LATERAL (
           SELECT position FROM core_outbox_batch
            WHERE organization_id = feed.organization_id
              AND id < kassa_first_id(%(edge)s) AND position IS NOT NULL
            ORDER BY position DESC LIMIT 1) AS gone
     WHERE head.organization_id = feed.organization_id
"""

type Holder = Callable[[UUID], bool]

_holders: dict[str, Holder] = {}


class EventsStillNeeded(InvariantBroken):
    """Open work points into a week of events that has had its time."""


def register_holder(*, name: str, is_needed: Holder) -> None:
    """Keep a week for as long as `is_needed(id)`: for open work that reads events below that id."""
    _holders[name] = is_needed


def register() -> None:
    """Declare the jobs, and what of the core needs its events; called when the app is ready."""
    jobs.declare(kind="core.keep_weeks", schedule=jobs.Every(minutes=60), run=keep_weeks)
    jobs.declare(kind="core.drop_weeks", schedule=jobs.Every(minutes=360), run=drop_weeks)
    jobs.declare(kind="core.analyze_weeks", schedule=jobs.Daily(time(4), "UTC"), run=analyze_weeks)
    register_holder(name="core.relay", is_needed=queries.has_unnumbered_before)
    register_holder(name="core.consume", is_needed=queries.has_open_work_before)


def kept_since(now: datetime) -> datetime:
    """Return since when events are kept: the beginning (UTC) of a week, at least 90 days ago."""
    oldest = now - timedelta(days=settings.EVENT_RETENTION_DAYS)
    monday = oldest - timedelta(days=oldest.weekday())
    return monday.replace(hour=0, minute=0, second=0, microsecond=0)


def keep_weeks(_period: str, now: datetime) -> None:
    """Make the parts of the next four weeks that are not there yet."""
    for table in TABLES:
        _keep_weeks_of(table, until=now + timedelta(weeks=_WEEKS_AHEAD))


@transactions.outermost
def _keep_weeks_of(table: str, *, until: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT kassa_keep_weeks(%s, %s)", [table, until])


def analyze_weeks(_period: str, _now: datetime) -> None:
    """
    Tell the planner of each table as a whole, which autovacuum never does.

    Without it a join of two such tables is taken for hundreds of times what it is.
    """
    for table in TABLES:
        _analyze_weeks_of(table)


@transactions.outermost
def _analyze_weeks_of(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT kassa_analyze_weeks(%s)", [table])


@transactions.outermost
def drop_weeks(_period: str, now: datetime) -> None:
    """
    Drop the weeks that are older than events are kept, and note in each feed where it begins.

    :raises EventsStillNeeded: if open work points into one of them; then all of them stay
    """
    with connection.cursor() as cursor:
        cursor.execute(_EDGE, {"before": kept_since(now)})
        edge = next((found for (found,) in cursor.fetchall()), None)
        if edge is None:
            return
        # Nothing new comes to need what is so old, so this holds until the end without a lock.
        holders = [name for name, is_needed in _holders.items() if is_needed(first_id(edge))]
        if holders:
            msg = f"Events before {edge.isoformat()} are needed by {', '.join(holders)}."
            raise EventsStillNeeded(msg)
        cursor.execute(_NOTE, {"edge": edge})
        for table in TABLES:
            cursor.execute("SELECT kassa_drop_weeks(%s, %s)", [table, edge])
    log.info("event_weeks_dropped", before=edge.isoformat())
