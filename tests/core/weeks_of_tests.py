"""Weeks of events for tests: parts that lie in the past, and events made in any of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from unittest import mock

import pytest
from django.db import connection

from apps.core import clock, ids, invariants, outbox, partitions
from apps.core.outbox import Consumer
from tests.core.events_of_tests import opened, publish, relay_and_consume
from tests.support import past_the_guards

WEEK = timedelta(weeks=1)
EVENTS, BATCHES = "core_outbox_event", "core_outbox_batch"

# From which Monday on parts were made, and what the catalog said of them then.
_made: list[object] = []


def run(sql: str, *values: object) -> list[tuple]:
    """Run SQL and return its rows, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []


def monday(instant: datetime) -> datetime:
    """Return the beginning of the instant's week, in UTC."""
    day = instant.astimezone(UTC) - timedelta(days=instant.astimezone(UTC).weekday())
    return day.replace(hour=0, minute=0, second=0, microsecond=0)


def ensure_weeks_from(first: datetime) -> None:
    """
    Have parts from that Monday on, none of which a test has changed.

    Before the first test and after one that made, dropped or analyzed parts they are made anew;
    the rows go with every test's. Whoever asks for them has the fixture `weeks_restored` as well.
    """
    if _made != [first, _fingerprint()]:
        _rebuild(first)
        _made[:] = [first, _fingerprint()]


def begin_weeks(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have parts from twenty weeks ago on; one consumer, and of the holders only the core's."""
    monkeypatch.setattr(
        outbox._consuming, "_consumers", {"recorder": Consumer(lambda _organization, _events: None)}
    )
    kept = {name: each for name, each in partitions._holders.items() if name.startswith("core.")}
    monkeypatch.setattr(partitions, "_holders", kept)
    ensure_weeks_from(monday(now) - 20 * WEEK)


def restore_weeks() -> None:
    """Leave the parts as the migration does."""
    _made.clear()
    _rebuild(monday(clock.now()) + 2 * WEEK)


def _fingerprint() -> list[tuple]:
    # A row of the catalog that is written anew is of another transaction. What ANALYZE tells is
    # written over.
    return run(
        "WITH whole AS (SELECT unnest(%s::text[])::regclass::oid AS oid)"
        "SELECT oid, xmin, relpages, reltuples FROM pg_class WHERE oid IN ("
        "       SELECT oid FROM whole UNION"
        "       SELECT inhrelid FROM pg_inherits JOIN whole ON inhparent = whole.oid)"
        " ORDER BY oid",
        list(partitions.TABLES),
    )


def _rebuild(first: datetime) -> None:
    past_the_guards("DELETE FROM core_outbox_event", "DELETE FROM core_outbox_batch")
    for table in partitions.TABLES:
        # All at once: after each statement of its own Postgres looks at all that are left anew.
        if weeks := [f'"{part}"' for part in parts(table) if not part.endswith("_default")]:
            run(f"DROP TABLE {', '.join(weeks)}")
        run("SELECT kassa_make_like(%s, %s)", f"{table}_before", f"{table}_default")
        run(
            f"ALTER TABLE {table} ATTACH PARTITION {table}_before"
            f" FOR VALUES FROM (MINVALUE) TO ('{ids.first_id(first)}')"
        )
    partitions.keep_weeks("", clock.now())


def parts(table: str) -> list[str]:
    """Return the names of a table's parts, oldest first, the default last."""
    rows = run(
        "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid"
        " WHERE inhparent = %s::regclass ORDER BY kassa_partition_beyond(inhrelid)",
        table,
    )
    return [name for (name,) in rows]


def part_of(instant: datetime, table: str = "core_outbox_event") -> str:
    """Return the name of the part for a week."""
    year, week, _ = instant.astimezone(UTC).isocalendar()
    return f"{table}_{year}w{week:02}"


@contextmanager
def made_at(instant: datetime) -> Iterator[None]:
    """Have ids made as a machine does whose clock says so."""
    stopped = SimpleNamespace(time_ns=lambda: int(instant.timestamp() * 1000) * 1_000_000)
    with mock.patch.object(ids, "time", stopped), mock.patch.object(ids, "_last_tick", 0):
        yield


def at(instant: datetime, act: Callable[[], object]) -> None:
    """Do something at an instant, by the clock that ids are made from."""
    with made_at(instant):
        act()


def where(table: str = EVENTS) -> dict[str, int]:
    """Return which parts hold rows, by how many."""
    return dict(run(f"SELECT tableoid::regclass::text, count(*) FROM {table} GROUP BY 1"))


def happen(instant: datetime, *events: object) -> None:
    """Publish events at an instant, and have them worked."""
    at(instant, lambda: publish(*(events or (opened(),))))
    relay_and_consume()


def broken() -> list[str]:
    """Return the invariants that do not hold."""
    return [breach.name for breach in invariants.breaches()]
