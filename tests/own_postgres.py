"""A Postgres of a test's own: it may be ended, and nobody else's transactions are in it."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import environ
import pytest
from django.db import connection

from dev import postgres
from tests.chaos.house import address_of_tests
from tests.support import close_spares

type Record = dict[str, str]


@contextlib.contextmanager
def own_postgres(folder: Path) -> Iterator[Record]:
    """Run a server until the block ends."""
    record = postgres.start(folder, {})
    try:
        yield record
    finally:
        postgres.stop(record)
        postgres.remove(record)


def copy_tables(record: Record) -> None:
    """Lay out the tables of this run's test database: migrating anew takes far longer."""
    programs = Path(record["programs"])
    dumped = subprocess.run(
        [programs / "pg_dump", "--no-comments", "--dbname", address_of_tests()],
        stdout=subprocess.PIPE,
        check=True,
    )
    subprocess.run(
        [programs / "psql", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", record["url"]],
        input=dumped.stdout, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip


@contextlib.contextmanager
def connected_to(url: str, monkeypatch: pytest.MonkeyPatch, *, is_durable: bool) -> Iterator[None]:
    """
    Have this process, the threads of its races included, on that database for the block.

    With the tests' own options, `synchronous_commit=off` among them, unless it is durable.
    """
    there = environ.Env.db_url_config(url)
    kept = {} if is_durable else connection.settings_dict["OPTIONS"]
    connection.close()
    close_spares()
    with monkeypatch.context() as own:
        for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT"):
            own.setitem(connection.settings_dict, name, there[name])
        own.setitem(connection.settings_dict, "OPTIONS", kept | there["OPTIONS"])
        try:
            yield
        finally:
            connection.close()
            close_spares()
