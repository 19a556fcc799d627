"""Rows that several tests begin with: made once in a process, then copied back."""

import pickle
from collections.abc import Callable
from datetime import date
from typing import Any

from django.db import connection

from apps.core import clock
from tests.support import cleaning, list_filled_tables

type _Rows = list[tuple[str, bytes]]

_kept: dict[tuple[Callable[[], Any], date], tuple[bytes, _Rows]] = {}

# Postgres makes the values of the others itself, and takes none.
_COLUMNS = """
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
 WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""


def from_snapshot[T](build: Callable[[], T]) -> T:
    """
    Return what the call builds, its rows committed; of every later one a copy of both.

    Only for tests with `transaction=True`, on empty tables. The clock has gone on since; what was
    built on another day is built anew.
    """
    key = build, clock.now().date()
    if key in _kept:
        made, rows = _kept[key]
        _copy_in(rows)
        result: T = pickle.loads(made)  # noqa: S301  made by this process
        return result
    built = build()
    _kept[key] = pickle.dumps(built), _copy_out()
    return built


def _copy_out() -> _Rows:
    rows = []
    with connection.cursor() as cursor:
        for table in list_filled_tables():
            cursor.execute(_COLUMNS, [table])
            columns = cursor.fetchone()[0]
            # Of a table in parts COPY takes no rows out by its name.
            with cursor.copy(f'COPY (SELECT {columns} FROM "{table}") TO STDOUT') as copy:
                rows.append((f'"{table}" ({columns})', b"".join(map(bytes, copy))))
    return rows


def _copy_in(rows: _Rows) -> None:
    # Without triggers and foreign keys, which have seen these rows already.
    with cleaning() as cursor:
        cursor.execute("BEGIN")
        for place, text in rows:
            with cursor.copy(f"COPY {place} FROM STDIN") as copy:
                copy.write(text)
        cursor.execute("COMMIT")
