"""The databases of a run, on the server that `make services` started or DATABASE_URL names."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import psycopg
from psycopg import conninfo

ROOT = Path(__file__).resolve().parent.parent
NAME = "kassa_bench"
TPCB_NAME = "kassa_bench_tpcb"


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


def refuse_unsafe_settings() -> None:
    """End the run where a figure would be flattered by settings that lose money."""
    with psycopg.connect(server()) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            value = connection.execute(f"SHOW {setting}").fetchone()
            if value is None or value[0] != "on":
                sys.exit(f"bench: {setting} is off on this server; its figures would mean nothing.")


def remake(name: str) -> None:
    """Create the database anew, empty."""
    with psycopg.connect(server(), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')


def exists(name: str) -> bool:
    with psycopg.connect(server()) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name])
        return found.fetchone() is not None


def migrate() -> None:
    """Lay out Kassa's tables in the bench database."""
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=ROOT,
        env=environment(),
        check=True,
    )


def environment() -> dict[str, str]:
    """Return the environment of a Kassa process on the bench database."""
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings.local",
        "DATABASE_URL": url(NAME),
        # As in production: a request's line is part of its cost.
        "KASSA_LOG_LEVEL": "INFO",
        "KASSA_LOG_FORMAT": "json",
    }
