"""
Statements of the hottest paths: prepared by the server, parameters and answers in binary.

Django's own cursor writes values into the text of each statement. What posts thousands of
transfers goes past it, on the same connection and in the same transaction: `run` is the whole of
the interface, and the arrays below are how a column of values travels at the speed of a copy.
"""

import struct
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, cast, override
from uuid import UUID

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper
from psycopg.pq import Format

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NULL: Final = b"\xff\xff\xff\xff"
_UUID_LENGTH: Final = b"\0\0\0\x10"


class _Array(bytes):
    """An array as Postgres' binary protocol has it; made by the functions below."""

    __slots__ = ()
    array_oid: int
    element_oid: int


class _Uuids(_Array):
    array_oid, element_oid = 2951, 2950


class _Int8s(_Array):
    array_oid, element_oid = 1016, 20


class _Int4s(_Array):
    array_oid, element_oid = 1007, 23


class _Texts(_Array):
    array_oid, element_oid = 1009, 25


class _Instants(_Array):
    array_oid, element_oid = 1185, 1184


def _make[A: _Array](kind: type[A], count: int, body: bytes, *, nulls: bool = False) -> A:
    if not count:
        return kind(struct.pack(">iii", 0, 0, kind.element_oid))
    return kind(struct.pack(">iiiii", 1, int(nulls), kind.element_oid, count, 1) + body)


def uuids(values: Sequence[UUID | None]) -> bytes:
    """Return a uuid[]."""
    # `v.int` and not `v.bytes`, and no `None in values`: both would call Python for each value.
    parts = [_NULL if v is None else _UUID_LENGTH + v.int.to_bytes(16) for v in values]
    return _make(_Uuids, len(parts), b"".join(parts), nulls=_NULL in parts)


def int8s(values: Sequence[int]) -> bytes:
    """Return a bigint[]."""
    flat = [8] * (2 * len(values))
    flat[1::2] = values
    return _make(_Int8s, len(values), struct.pack(">" + "iq" * len(values), *flat))


def int4s(values: Sequence[int]) -> bytes:
    """Return an integer[]."""
    flat = [4] * (2 * len(values))
    flat[1::2] = values
    return _make(_Int4s, len(values), struct.pack(f">{len(flat)}i", *flat))


def texts(values: Sequence[str | None]) -> bytes:
    """Return a text[]; a text that occurs often is encoded once."""
    known = {text: _text(text) for text in set(values)}
    return _make(_Texts, len(values), b"".join([known[v] for v in values]), nulls=None in known)


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    raw = value.encode()
    return struct.pack(">i", len(raw)) + raw


def instants(values: Sequence[datetime | None]) -> bytes:
    """Return a timestamptz[]; an instant that occurs often is encoded once."""
    known = {instant: _instant(instant) for instant in set(values)}
    return _make(_Instants, len(values), b"".join([known[v] for v in values]), nulls=None in known)


def _instant(value: datetime | None) -> bytes:
    return _NULL if value is None else struct.pack(">iq", 8, (value - _EPOCH) // _MICROSECOND)


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def __init__(self, cls: type[_Array], context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        self.oid = cls.array_oid

    @override
    def dump(self, obj: Any) -> bytes:
        return cast("bytes", obj)


for _kind in (_Uuids, _Int8s, _Int4s, _Texts, _Instants):
    psycopg.adapters.register_dumper(_kind, _ArrayDumper)


def run(statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
    """
    Run one statement that answers rows, on Django's connection, and return them.

    Errors are Django's, as from its own cursor, and so is whatever watches or logs statements.
    """
    django = _connected()
    cursor = psycopg.Cursor(django.connection)
    _execute(django, cursor, statement, values)
    # In a pipeline this is what waits for the answer.
    with django.wrap_database_errors:
        return cursor.fetchall()


def send(statement: str, values: Mapping[str, object]) -> None:
    """
    Run one statement that answers nothing; in a pipeline it is not waited for.

    Errors are Django's: here, or where a pipeline ends.
    """
    django = _connected()
    _execute(django, psycopg.Cursor(django.connection), statement, values)


def _connected() -> BaseDatabaseWrapper:
    # Each look through Django's `connection` finds this thread's anew, so there is one.
    django = connections[DEFAULT_DB_ALIAS]
    django.ensure_connection()
    django.validate_no_broken_transaction()
    return django


def _execute(
    django: BaseDatabaseWrapper,
    cursor: psycopg.Cursor[Any],
    statement: str,
    values: Mapping[str, object],
) -> None:
    if django.execute_wrappers or django.queries_logged:
        _run_watched(django, cursor, statement, values)
        return
    with django.wrap_database_errors:
        cursor.execute(statement, values, binary=True)


def _run_watched(
    django: BaseDatabaseWrapper,
    cursor: psycopg.Cursor[Any],
    statement: str,
    values: Mapping[str, object],
) -> None:
    def execute(sql: str, params: Any, many: bool, context: Any) -> None:  # noqa: ANN401, ARG001, FBT001  (Django's own signature of what wraps statements)
        with django.wrap_database_errors:
            cursor.execute(sql, params, binary=True)

    watched: Any = execute
    for wrapper in reversed(django.execute_wrappers):
        watched = partial(wrapper, watched)
    started = time.monotonic()
    watched(statement, values, False, {"connection": django, "cursor": cursor})  # noqa: FBT003
    if django.queries_logged:
        django.queries_log.append({"sql": statement, "time": f"{time.monotonic() - started:.3f}"})
