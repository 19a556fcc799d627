"""The databases of a run, on the server that `make services` started or another that is named."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import conninfo, errors

ROOT: Final = Path(__file__).resolve().parent.parent
# Several people measure on one server: each under a name of their own, all others derive from it.
NAME: Final = os.environ.get("KASSA_BENCH_DB", "kassa_bench")
TPCB_NAME: Final = f"{NAME}_tpcb"
_DROP_SECONDS_MAX: Final = 120
# 2 GiB: what is written until a checkpoint leaves as many to write over (`max_wal_size`).
_LOG_FILES: Final = 128
_COUNTS_LOG_FILES: Final = 180_000
HORDAK_NAME: Final = f"{NAME}_hordak"


@cache
def server() -> str:
    """Return the libpq address of the server's own database."""
    given = os.environ.get("KASSA_BENCH_SERVER")
    if given:
        return given
    from dev import services  # noqa: PLC0415  (only where no server was named)

    url = services.read_record()["postgres"]["url"]
    return conninfo.make_conninfo(url.replace("postgres://", "postgresql://", 1))


def address(name: str) -> str:
    """Return the libpq address of one database."""
    return conninfo.make_conninfo(server(), dbname=name)


def url(name: str) -> str:
    """Return the address as Django reads it."""
    parts = conninfo.conninfo_to_dict(server())
    return f"postgres://{parts.get('user', 'kassa')}@/{name}?host={parts.get('host', '')}"


def server_settings() -> str:
    """Say which server it is, and what its figures depend on most."""
    with psycopg.connect(server()) as connection:
        version, *values = [
            connection.execute(f"SHOW {name}").fetchone()
            for name in ("server_version", "shared_buffers", "synchronous_commit", "fsync")
        ]
    buffers, commit, fsync = [value[0] for value in values if value]
    name = version[0] if version else "?"
    return f"Postgres {name}, shared_buffers {buffers}, synchronous_commit {commit}, fsync {fsync}"


def refuse_unsafe_settings() -> None:
    """End the run where a figure would be flattered by settings that lose money."""
    with psycopg.connect(server()) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            value = connection.execute(f"SHOW {setting}").fetchone()
            if value is None or value[0] != "on":
                sys.exit(f"bench: {setting} is off on this server; its figures would mean nothing.")


def make_log_files() -> None:
    """
    Give our server the files of its log that one has which ran for a day.

    It writes over old ones; while there are none it fills a new one with zeros and syncs it, and no
    COMMIT ends meanwhile (docs/adr/0183). `min_wal_size` keeps what is made here. A server of
    somebody else's is left as it is.
    """
    if "KASSA_BENCH_SERVER" in os.environ:
        return
    owners = conninfo.make_conninfo(server(), user="postgres", dbname="postgres")
    with psycopg.connect(owners, autocommit=True) as connection:
        missing = _count_log_files(connection) < _LOG_FILES
        for _ in range(_LOG_FILES if missing else 0):
            # Only a file in which something stands is ended.
            connection.execute("SELECT pg_logical_emit_message(false, 'bench', '')")
            connection.execute("SELECT pg_switch_wal()")
        # Leaves them; and nothing of what was before is written while it is measured.
        connection.execute("CHECKPOINT")


def _count_log_files(connection: psycopg.Connection[Any]) -> int:
    """Return how many whole files lie ready behind the one that is written."""
    found = connection.execute(
        "SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"
        " AND name > pg_walfile_name(pg_current_wal_insert_lsn())"
    ).fetchone()
    return found[0] if found else 0


@contextmanager
def new_log_files_told() -> Iterator[None]:
    """Say so where the server had to make files of its log: what was measured has those stops."""
    before = _new_log_bytes()
    yield
    if made := _new_log_bytes() - before:
        print(f"bench: the server made {made >> 20} MiB of its log anew.", file=sys.stderr)


def _new_log_bytes() -> int:
    """Return how much of its log the server has made; 0 before Postgres 18, which counts it."""
    with psycopg.connect(server()) as connection:
        if connection.info.server_version < _COUNTS_LOG_FILES:
            return 0
        found = connection.execute(
            "SELECT COALESCE(sum(write_bytes), 0)::bigint FROM pg_stat_io"
            " WHERE object = 'wal' AND context = 'init'"
        ).fetchone()
    return found[0] if found else 0


def remake(name: str, *, template: str | None = None) -> None:
    """Create the database anew, empty or as a copy of another."""
    with psycopg.connect(server(), autocommit=True) as connection:
        _drop(connection, name)
        # Copied as files: for gigabytes that is faster than by way of the log.
        copied = f' TEMPLATE "{template}" STRATEGY FILE_COPY' if template else ""
        connection.execute(f'CREATE DATABASE "{name}"{copied}')


def _drop(connection: psycopg.Connection[Any], name: str) -> None:
    deadline = time.monotonic() + _DROP_SECONDS_MAX
    while True:
        try:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        except (errors.InsufficientPrivilege, errors.ObjectInUse):
            # An autovacuum worker is at it, which only a superuser may end.
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


def drop(name: str) -> None:
    with psycopg.connect(server(), autocommit=True) as connection:
        _drop(connection, name)


def exists(name: str) -> bool:
    with psycopg.connect(server()) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name])
        return found.fetchone() is not None


@contextmanager
def scratch(suffix: str) -> Iterator[str]:
    """Lay out Kassa's tables in a database that is dropped when the block ends; yield its name."""
    name = f"{NAME}_{suffix}"
    remake(name)
    try:
        migrate(name)
        yield name
    finally:
        drop(name)


def settle(name: str) -> None:
    """Vacuum and analyze, so that no autovacuum does it in the middle of a measurement."""
    with psycopg.connect(address(name), autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


def manage(name: str, *arguments: str) -> None:
    """Run one of Kassa's commands on a database; standard output is left to the table."""
    subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(name),
        stdout=sys.stderr,
        check=True,
    )


def migrate(name: str) -> None:
    """Lay out Kassa's tables."""
    manage(name, "migrate", "--verbosity", "0")


def environment(name: str = NAME) -> dict[str, str]:
    """Return the environment of a Kassa process on one database."""
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings.local",
        "DATABASE_URL": url(name),
        # As in production: a request's line is part of its cost.
        "KASSA_LOG_LEVEL": "INFO",
        "KASSA_LOG_FORMAT": "json",
    }
