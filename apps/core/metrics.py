"""
What Prometheus is told: gauges, each read when it is asked for, and what processes have counted.

Every gauge is a bounded read of Postgres, on its clock, so that any exporter says the same. None
has an organization for a label: there are many, and how one does is not for whoever watches.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from celery import current_app
from django.apps import apps
from django.db import DatabaseError, InterfaceError, connection

from apps.core import clock, counters, findings, heartbeats, stuck
from apps.core.counters import Counter, sample_name
from apps.core.stuck import KindStanding, Standing

log = structlog.get_logger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
WORK_COUNTED_MAX: Final = 100_000
# Of what series a histogram is.
_PARTS: Final = ("bucket", "sum", "count")

# Of this database alone: what runs in another one keeps no row of this one alive.
_OLDEST_TRANSACTION: Final = """
    SELECT COALESCE(EXTRACT(epoch FROM MAX(clock_timestamp() - xact_start)), 0)::float8
      FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
       AND backend_type = 'client backend'
"""

type Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Gauge:
    """One gauge: what it is called and means, and its values at this moment."""

    name: str
    told: str
    samples: list[tuple[Labels, float]]


def render() -> str:
    """Return everything as the text that Prometheus scrapes; without Postgres, what was counted."""
    lines = [*_render_gauges(), *_render_counters()]
    return "\n".join([*lines, ""])


def _render_gauges() -> Iterator[str]:
    gauges, is_read = [], 1.0
    try:
        gauges = read_gauges()
    except (DatabaseError, InterfaceError) as fault:
        log.warning("gauges_not_read", fault=type(fault).__name__)
        is_read = 0.0
    finally:
        connection.close()
    told = "Whether the gauges could be read from Postgres."
    for gauge in [Gauge("kassa_gauges_read", told, [({}, is_read)]), *gauges]:
        yield from _head(gauge.name, gauge.told, "gauge")
        for labels, value in gauge.samples:
            yield f"{sample_name(gauge.name, labels)} {_number(value)}"


def _render_counters() -> Iterator[str]:
    counted = counters.read()
    for each in counters.declared():
        is_counter = isinstance(each, Counter)
        names = [each.name] if is_counter else [f"{each.name}_{part}" for part in _PARTS]
        yield from _head(each.name, each.told, "counter" if is_counter else "histogram")
        for series, value in counted.items():
            if series.partition("{")[0] in names:
                yield f"{series} {_number(value)}"


def _head(name: str, told: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf"
    return str(int(value)) if value.is_integer() else repr(value)


def read_gauges() -> list[Gauge]:
    """Return every gauge as it is now."""
    return [*_work(), _heartbeats(), *_jobs(), _oldest_transaction(), *_invariants()]


def _work() -> Iterator[Gauge]:
    standings = stuck.count_work(organization_ids=None, number_max=WORK_COUNTED_MAX)
    now = clock.database_now()

    def gauge(name: str, told: str, value: Callable[[KindStanding], float]) -> Gauge:
        return Gauge(name, told, [({"kind": each.name}, value(each)) for each in standings])

    yield gauge(
        "kassa_work_due",
        f"Open rows of work that are due, {WORK_COUNTED_MAX} counted at most.",
        lambda each: float(each.number(Standing.DUE, Standing.OVERDUE)),
    )
    yield gauge(
        "kassa_work_oldest_due_seconds",
        "For how long the row that waits longest has been due.",
        lambda each: _age(each.oldest_due_at, now),
    )
    yield gauge(
        "kassa_work_quarantined",
        "Rows of work that were set aside for a person.",
        lambda each: float(each.number(Standing.QUARANTINED)),
    )


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else (now - since).total_seconds()


def _heartbeats() -> Gauge:
    ages = heartbeats.list_ages()
    queues = [queue.name for queue in current_app.conf.task_queues]
    return Gauge(
        "kassa_queue_heartbeat_age_seconds",
        "How long ago a worker of the queue last ran a heartbeat; infinite if none ever did.",
        [({"queue": queue}, ages.get(queue, math.inf)) for queue in queues],
    )


def _jobs() -> Iterator[Gauge]:
    now = clock.database_now()
    jobs = stuck.list_jobs(now=now)
    yield Gauge(
        "kassa_job_last_success_timestamp_seconds",
        "When the job last did its work, if it ever did.",
        [
            ({"job": each.job.kind}, each.last_success_at.timestamp())
            for each in jobs
            if each.last_success_at is not None
        ],
    )
    yield Gauge(
        "kassa_job_late",
        "Whether the job's last success is older than two of its periods.",
        [({"job": each.job.kind}, float(each.is_late(now=now))) for each in jobs],
    )


def _oldest_transaction() -> Gauge:
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST_TRANSACTION)
        [(age,)] = cursor.fetchall()
    told = "For how long the oldest transaction has been open: vacuum removes nothing younger."
    return Gauge("kassa_pg_oldest_transaction_seconds", told, [({}, age)])


def _invariants() -> Iterator[Gauge]:
    # What core's own say of work that is late is told by the kinds of work themselves.
    ours = {one.label for one in apps.get_app_configs() if one.name.startswith("apps.")}
    try:
        last = findings.find_last(of_apps=ours - {"core"})
    except DatabaseError as fault:
        # The table is of an app above, and its right may be missing: others are told all the same.
        log.warning("invariants_not_read", fault=type(fault).__name__)
        return
    yield Gauge(
        "kassa_invariant_violations",
        "Whether the invariant did not hold when it was last looked at; 1 if so.",
        [({"name": name}, float(not holds)) for name, holds in last.items()],
    )
