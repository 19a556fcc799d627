"""How values travel to prepared statements: Postgres' binary format, columns as arrays."""

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

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


class _Booleans(_Array):
    array_oid, element_oid = 1000, 16


class _Byteas(_Array):
    array_oid, element_oid = 1001, 17


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


def booleans(values: Sequence[bool]) -> bytes:
    """Return a boolean[]."""
    return _make(_Booleans, len(values), b"".join([b"\0\0\0\1" + bytes([v]) for v in values]))


def byteas(values: Sequence[bytes]) -> bytes:
    """Return a bytea[]."""
    return _make(_Byteas, len(values), b"".join([struct.pack(">i", len(v)) + v for v in values]))


# --- Single values ------------------------------------------------------------------------------


# By type: the OID of what it becomes in Postgres, and how it is written. An integer is a bigint,
# which a column of a shorter one takes too.
_SINGLE: Final[dict[type, tuple[int, Callable[[Any], bytes | None]]]] = {
    UUID: (2950, lambda value: value.int.to_bytes(16)),
    str: (25, str.encode),
    bool: (16, lambda value: bytes([value])),
    int: (20, struct.Struct(">q").pack),
    datetime: (1184, lambda value: _instant(value)[4:]),
    bytes: (17, bytes),
    type(None): (0, lambda _value: None),
    **{kind: (kind.array_oid, bytes) for kind in _Array.__subclasses__()},
}


def encode(value: object) -> tuple[int, bytes | None]:
    """
    Return the OID of a value's type in Postgres, and the value in binary.

    :raises TypeError: for a type that no statement sends
    """
    try:
        oid, write = _SINGLE[type(value)]
    except KeyError:
        msg = f"{type(value).__name__} is no type that a statement sends."
        raise TypeError(msg) from None
    return oid, write(value)
