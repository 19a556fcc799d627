"""Rows of a SELECT portion by portion: memory stays flat however many there are."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, Final

import psycopg
from django.db import connection

_numbers: Final = count(1)


def stream(
    select: str,
    values: Sequence[object] | Mapping[str, object],
    *,
    portion: int,
    binary: bool = False,
    nested_loops: bool = True,
) -> Iterator[tuple[Any, ...]]:
    """
    Yield a SELECT's rows, `portion` of them in memory; call it inside a transaction.

    They come through a cursor of Postgres', which whoever stops early leaves to the transaction's
    end. A generator ends where it is thrown away, and that may be when it is collected as garbage:
    by any thread, in the middle of whatever its connection is at by then. So nothing is said to
    Postgres at that point (docs/adr/0172).

    Statements that were sent and not answered yet (`statements.start`) are not asked for first, so
    call it where there are none.

    `binary`: numbers and ids travel as they are kept. `nested_loops`: whether the plan may have
    any; it is made as the first row is asked for.

    :raises django.db.Error: what Postgres says
    """
    connection.ensure_connection()
    name = f"stream_{next(_numbers)}"
    # A cursor of this side's own: to close it tells Postgres nothing.
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        # Names are new each time, so nothing of it is worth preparing.
        say = partial(cursor.execute, prepare=False)
        if not nested_loops:
            say("SET LOCAL enable_nestloop = off")
        say(f"DECLARE {name} NO SCROLL CURSOR FOR {select}".encode(), values)
        if not nested_loops:
            say("SET LOCAL enable_nestloop = on")
        fetch = f"FETCH FORWARD {portion} FROM {name}".encode()
        is_more = True
        while is_more:
            rows = say(fetch, binary=binary).fetchall()
            yield from rows
            is_more = len(rows) == portion
        say(f"CLOSE {name}".encode())
