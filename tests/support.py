"""What tests of several apps use: properties, races, processes, waiting, clean-up."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from django.apps import apps
from django.conf import settings
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from psycopg import IsolationLevel

from apps.core._wire import _wires
from apps.core.errors import Refusal
from apps.core.transactions import sqlstate

ROOT = Path(__file__).resolve().parent.parent

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Made with the schema, by migrations and Django itself, and the same for every test.
_KEPT_TABLES = (
    "django_migrations",
    "django_content_type",
    "auth_permission",
    "auth_group",
    "auth_group_permissions",
)


# --- Properties -------------------------------------------------------------------------------


def examples(count: int) -> int:
    """Return on how many examples a property is tried: on five times as many in `make soak`."""
    return 5 * count if os.environ.get("KASSA_SOAK") else count


# --- Races ------------------------------------------------------------------------------------


def race(*calls: Callable[[], Any], seconds: float = 60) -> list[Any]:
    """
    Run the calls at once, each in a thread with a connection of its own; return in their order.

    A refusal is an outcome and is returned. Anything else that is raised is a fault and is raised
    here, so it fails the test. Only for tests with `transaction=True`: others see no commit.
    """
    if connection.in_atomic_block:
        raise RuntimeError("A race needs @pytest.mark.django_db(transaction=True).")
    runners = _start_runners(calls, seconds)
    deadline = time.monotonic() + seconds
    for runner in runners:
        runner.join(max(0, deadline - time.monotonic()))
    faults = [runner.fault for runner in runners if runner.fault is not None]
    if any(runner.is_alive() for runner in runners):
        faults.append(TimeoutError(f"A call of the race still runs after {seconds} s."))
    if faults:
        raise BaseExceptionGroup("The race met faults.", faults)
    return [runner.outcome for runner in runners]


class _Runner(threading.Thread):
    def __init__(self, call: Callable[[], Any], ready: threading.Barrier) -> None:
        super().__init__(daemon=True)
        self.call, self.ready = call, ready
        self.outcome: Any = None
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            _take_connection()
            self.ready.wait()
            self.outcome = until_serialized(self.call)
        except Refusal as refusal:
            self.outcome = refusal
        except BaseException as fault:  # noqa: BLE001  raised again by the thread of the test
            self.fault = fault
            self.ready.abort()
        finally:
            _leave_connection()


# What threads of races left for those of the next. Few wait for a thread: Postgres has so many.
_spares: list[psycopg.Connection[Any]] = []
_SPARES_MAX = 20


def _take_connection() -> None:
    """Have this thread connected, by what an earlier one left if there is any that still lives."""
    with contextlib.suppress(IndexError):
        connection.connection = _spares.pop()
        if connection.is_usable():
            connection.set_autocommit(True)
            return
        connection.close()
    connection.ensure_connection()


def _leave_connection() -> None:
    """Leave this thread's connection to another one, or close it."""
    renew_connection()
    raw = connection.connection
    if raw is None or len(_spares) >= _SPARES_MAX:
        connection.close()
        return
    # What this thread read is counted now, and not in the middle of the next test.
    raw.execute("SELECT pg_stat_force_next_flush()")
    connection.connection = None
    _spares.append(raw)


def close_spares() -> None:
    """Close what races left: the next one is to connect to another server."""
    while _spares:
        _spares.pop().close()


def is_serializable() -> bool:
    """Say whether the tests run SERIALIZABLE."""
    level = connection.settings_dict["OPTIONS"].get("isolation_level")
    return bool(level == IsolationLevel.SERIALIZABLE)


def until_serialized[R](call: Callable[[], R]) -> R:
    """
    Call; where the tests run SERIALIZABLE, again as long as it came too late, as a client would.

    There a transaction that waited for a row which another one changed is undone, and of many at
    once on one row some lose more often than an operation runs again. READ COMMITTED alone
    promises that whoever waits gets through.
    """
    while True:
        try:
            return call()
        except OperationalError as fault:
            if not is_serializable() or sqlstate(fault) != "40001":
                raise


def _start_runners(calls: tuple[Callable[[], Any], ...], seconds: float) -> list[_Runner]:
    # Everybody connects first: otherwise the slowest connection decides the order.
    ready = threading.Barrier(len(calls), timeout=seconds)
    runners = [_Runner(call, ready) for call in calls]
    for runner in runners:
        runner.start()
    return runners


# --- Processes --------------------------------------------------------------------------------

# Kept to the end: what it binds and never listens on, Postgres' clients and others are not given.
_reserved_ports: list[socket.socket] = []


def free_port() -> int:
    """
    Return a port of this machine that nobody else is given until this process ends.

    A server that reuses addresses, as ours do, can listen on it. A port that was free a moment ago
    and is let go may be the near end of somebody's connection by the time the server starts.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    _reserved_ports.append(reserved)
    port: int = reserved.getsockname()[1]
    return port


@contextlib.contextmanager
def running(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """
    Run `python <arguments>` on this test's database and broker until the block ends.

    The process is the leader of a group of its own: `kill_hard` ends it with its children at once.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "config.settings.test",
            "KASSA_IN_TEST": "1",
            "KASSA_TEST_DB_NAME": connection.settings_dict["NAME"],
            **environment,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_hard(process)


def running_worker(
    *queues: str, pool: str = "prefork", concurrency: int = 2, **environment: str
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """Run a real Celery worker for the queues; see `running`."""
    return running(
        *_celery(queues, pool, concurrency), KASSA_ROLE=_worker_role(pool), **environment
    )


def running_supervised(
    *queues: str,
    silent_seconds: float,
    pool: str = "prefork",
    concurrency: int = 2,
    **environment: str,
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """Run a real worker under a supervisor that sends each second; see `running`."""
    return running(
        "-m", "config.supervisor", "--beat-seconds", "1", "--silent-seconds", str(silent_seconds),
        "--grace-seconds", "1", sys.executable, *_celery(queues, pool, concurrency),
        KASSA_ROLE=_worker_role(pool), **environment,
    )  # fmt: skip


def _celery(queues: tuple[str, ...], pool: str, concurrency: int) -> list[str]:
    return [
        "-m", "celery", "-A", "config", "worker", "-Q", ",".join(queues),
        "-P", pool, "-c", str(concurrency), "--without-gossip", "--without-mingle",
    ]  # fmt: skip


def _worker_role(pool: str) -> str:
    return "worker" if pool == "prefork" else "threads"


def worker_of(supervisor: subprocess.Popen[str]) -> int | None:
    """Return the process of the worker that a supervisor runs now, if it runs one."""
    children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text()
    return int(children.split()[0]) if children else None


def kill_hard(process: subprocess.Popen[str]) -> None:
    """Kill the process and its children, with no chance to tidy up, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    for end in (process.stdin, process.stdout):
        if end is not None:
            end.close()


def wait_until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    """Return as soon as the condition holds; fail the test if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"Not within {seconds} s: {condition}")
        time.sleep(0.02)


def rows_read(tables: str) -> int:
    """Return how many rows of the tables whose names are LIKE this were read so far, by anybody."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables"
            " WHERE relname LIKE %s",
            [tables],
        )
        [(count,)] = cursor.fetchall()
    return int(count)


def count_rows_read(tables: str, act: Callable[[], object]) -> int:
    """Return how many rows an act read of the tables whose names are LIKE this."""
    before = rows_read(tables)
    act()
    return rows_read(tables) - before


def empty_broker() -> None:
    """Take this test database's messages out of the broker; those of others stay."""
    import redis  # noqa: PLC0415  most tests need no broker

    prefix = settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"]
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        for key in client.scan_iter(match=f"{prefix}*", count=1000):
            client.delete(key)


# --- Clean-up ---------------------------------------------------------------------------------


def empty_tables() -> None:
    """Empty every table that has a row, past the guards, as if the test had never committed."""
    if filled := list_filled_tables():
        with cleaning() as cursor:
            # Row by row: a TRUNCATE makes and syncs new files for each table and index, which
            # costs more than the test did. Sent together they are one transaction.
            statements = [f'DELETE FROM "{name}"' for name in filled]
            # The rows that it read for this are counted now. Postgres would put that off for up to
            # ten seconds, into what the next test finds that its own act has read.
            statements.append("SELECT pg_stat_force_next_flush()")
            cursor.execute("; ".join(statements))


def list_filled_tables() -> list[str]:
    """Return the tables that have a row, but for those that migrations fill."""
    with cleaning() as cursor:
        cursor.execute("EXECUTE filled_tables")
        return [name for (name,) in cursor.fetchall()]


def cleaning() -> CursorWrapper:
    """Return a cursor that no trigger and no foreign key looks at."""
    cleaner = _cleaner()
    if not cleaner.is_usable():
        cleaner.close()
        with cleaner.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute(f"PREPARE filled_tables AS {_filled_tables_query()}")
    return cleaner.cursor()


@cache
def _cleaner() -> BaseDatabaseWrapper:
    # A connection of its own, kept from test to test. Those of tests are new each time, and to
    # look at every table for the first time takes thirty milliseconds: more than most tests.
    return connection.copy()


def renew_connection() -> None:
    """
    Give the next test a connection as good as new, or a new one where this one is of no more use.

    Django would close it. But a new one reads the schema again, and each table, trigger and
    function at first use, which is work for both sides before most tests have begun.
    """
    raw = connection.connection
    if raw is None:
        return
    try:
        # Refused inside a transaction, which a failed test may have left open.
        raw.execute("DISCARD ALL")
        # It remembers what was prepared.
        _wires.pop(raw, None)
        connection.run_on_commit = []
        connection.errors_occurred = connection.needs_rollback = False
    except psycopg.Error:
        connection.close()


def stop_cleaning() -> None:
    """Close what `empty_tables` keeps open, so that the database can go."""
    _cleaner().close()


def past_the_guards(*statements: str | Callable[[], object]) -> None:
    """Run SQL, or calls, in one transaction that no trigger and no foreign key looks at."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; SET LOCAL session_replication_role = replica")
        try:
            for statement in statements:
                if isinstance(statement, str):
                    cursor.execute(statement)
                else:
                    statement()
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        cursor.execute("COMMIT")


@cache
def _filled_tables_query() -> str:
    # The test may have left tables of its own making; only those of models are asked for.
    models = apps.get_models(include_auto_created=True)
    tables = {model._meta.db_table for model in models if model._meta.managed}
    return " UNION ALL ".join(
        f"SELECT '{table}' WHERE EXISTS (SELECT FROM \"{table}\")"
        for table in sorted(tables.difference(_KEPT_TABLES))
    )
