"""
Heartbeats of queues: a task on each that only writes down, on the database's clock, that it ran.

A queue is silent when the broker has taken heartbeats of it for a while, one after the other, and
nobody has run one. Where none could be sent nothing is known, and the queue is not called silent.

Nothing here needs the apps to be loaded: a supervisor is a small process.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.db import connection

from apps.core import transactions

TASK: Final = "core.heartbeat"
# Between two that were sent. Past so much more, whoever sends or the broker was away in between.
BEAT_SECONDS: Final = 15.0
SILENT_SECONDS: Final = 60.0

_SENT: Final = """
    INSERT INTO core_queue_heartbeat AS known (queue, sent_at, unanswered_since)
    SELECT queue, %(at)s, %(at)s FROM unnest(%(queues)s::text[]) AS queue ORDER BY queue
        ON CONFLICT (queue) DO UPDATE
       SET sent_at = GREATEST(known.sent_at, excluded.sent_at),
           unanswered_since = CASE
               WHEN known.beaten_at >= excluded.sent_at THEN NULL
               WHEN known.sent_at < excluded.sent_at - %(gap)s * interval '1 second'
                   THEN excluded.sent_at
               ELSE COALESCE(known.unanswered_since, excluded.sent_at) END
"""
_BEATEN: Final = """
    INSERT INTO core_queue_heartbeat (queue, beaten_at, worker)
    VALUES (%(queue)s, clock_timestamp(), %(worker)s)
        ON CONFLICT (queue) DO UPDATE
       SET beaten_at = excluded.beaten_at, unanswered_since = NULL, worker = excluded.worker
"""
_AGES: Final = """
    SELECT queue, EXTRACT(epoch FROM clock_timestamp() - beaten_at)::float8
      FROM core_queue_heartbeat WHERE beaten_at IS NOT NULL
"""
_SILENT: Final = """
    SELECT queue FROM core_queue_heartbeat
     WHERE queue = ANY(%(queues)s)
       AND sent_at - unanswered_since >= %(silent)s * interval '1 second'
     ORDER BY queue
"""


@transactions.outermost
def record_sent(*, queues: Sequence[str], at: datetime, gap_seconds: float) -> None:
    """
    Record that the broker took a heartbeat of each of these queues after `at`.

    More than `gap_seconds` after the one before it, it is the first of a new series.
    """
    with connection.cursor() as cursor:
        cursor.execute(_SENT, {"queues": list(queues), "at": at, "gap": gap_seconds})


@transactions.outermost
def record_beat(*, queue: str, worker: str) -> None:
    """Record that this worker runs the queue's tasks; twice is as good as once."""
    with connection.cursor() as cursor:
        cursor.execute(_BEATEN, {"queue": queue, "worker": worker})


def list_silent(*, queues: Sequence[str], seconds: float) -> list[str]:
    """Return those of these queues that have answered nothing sent in this long a series."""
    with connection.cursor() as cursor:
        cursor.execute(_SILENT, {"queues": list(queues), "silent": seconds})
        return [queue for (queue,) in cursor.fetchall()]


def list_ages() -> dict[str, float]:
    """Return for each queue how many seconds ago a worker of it last ran a heartbeat, if ever."""
    with connection.cursor() as cursor:
        cursor.execute(_AGES)
        return dict(cursor.fetchall())
