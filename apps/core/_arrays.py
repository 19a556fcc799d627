"""How values travel to prepared statements: Postgres' binary format, columns as arrays."""

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NULL: Final = b"\xff\xff\xff\xff"
_UUID_LENGTH: Final = b"\0\0\0\x10"
_INT8: Final = struct.Struct(">q").pack
_INT4: Final = struct.Struct(">i").pack


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


class Few(NamedTuple):
    """
    A column of so few values that a statement may name each, which costs Postgres less to read.

    `_spelling` does so where the statement unnests it; elsewhere it is an array like any other.
    """

    kind: type[_Array]
    values: list[bytes | None]


class Same(NamedTuple):
    """
    A column of one value, however many rows it has.

    `_spelling` has it sent once where the statement says that it may; elsewhere it is an array as
    any other is.
    """

    kind: type[_Array]
    value: bytes | None
    rows: int

    @property
    def values(self) -> list[bytes | None]:
        """Return the value, as the only one."""
        return [self.value]


type Column = _Array | Few | Same

# Each number of rows is a statement of its own that a connection prepares: so not many of them.
_FEW_MAX: Final = 4


# By so many texts it is guessed whether each is of its own.
_SAMPLE: Final = 16


def _make[A: _Array](kind: type[A], count: int, body: bytes, *, nulls: bool = False) -> A:
    if not count:
        return kind(struct.pack(">iii", 0, 0, kind.element_oid))
    return kind(struct.pack(">iiiii", 1, int(nulls), kind.element_oid, count, 1) + body)


def _is_few(values: Sequence[object]) -> bool:
    return 0 < len(values) <= _FEW_MAX


def _are_same(values: Sequence[object]) -> bool:
    # The first and the last tell most columns that are not; the rest is counted in C.
    return bool(values) and values[0] == values[-1] and values.count(values[0]) == len(values)


def uuids(values: Sequence[UUID | None]) -> Column:
    """Return a uuid[]."""
    if _is_few(values):
        return Few(_Uuids, [None if v is None else v.int.to_bytes(16) for v in values])
    # Of ids only where there is none: two are compared in Python.
    if values and values[0] is None and _are_same(values):
        return Same(_Uuids, None, len(values))
    # `v.int` and not `v.bytes`, and no `None in values`: both would call Python for each value.
    try:
        parts = [v.int.to_bytes(16) for v in values]  # type: ignore[union-attr]
    except AttributeError:
        parts = [_NULL if v is None else _UUID_LENGTH + v.int.to_bytes(16) for v in values]
        return _make(_Uuids, len(parts), b"".join(parts), nulls=True)
    return _make(_Uuids, len(parts), _UUID_LENGTH + _UUID_LENGTH.join(parts))


def int8s(values: Sequence[int]) -> Column:
    """Return a bigint[]."""
    if _is_few(values):
        return Few(_Int8s, [_INT8(v) for v in values])
    if _are_same(values):
        return Same(_Int8s, _INT8(values[0]), len(values))
    flat = [8] * (2 * len(values))
    flat[1::2] = values
    return _make(_Int8s, len(values), struct.pack(">" + "iq" * len(values), *flat))


def int4s(values: Sequence[int]) -> Column:
    """Return an integer[]."""
    if _is_few(values):
        return Few(_Int4s, [_INT4(v) for v in values])
    if _are_same(values):
        return Same(_Int4s, _INT4(values[0]), len(values))
    flat = [4] * (2 * len(values))
    flat[1::2] = values
    return _make(_Int4s, len(values), struct.pack(f">{len(flat)}i", *flat))


def texts(values: Sequence[str | None]) -> Column:
    """Return a text[]; a text that occurs often is encoded once."""
    if _is_few(values):
        return Few(_Texts, [None if v is None else v.encode() for v in values])
    if _are_same(values):
        return Same(_Texts, None if values[0] is None else values[0].encode(), len(values))
    first = values[:_SAMPLE]
    if None not in first and len(set(first)) == len(first):
        # Each of its own, as ids and events are: nothing to look up.
        try:
            parts = [_INT4(len(raw := v.encode())) + raw for v in values]  # type: ignore[union-attr]
        except AttributeError:
            pass
        else:
            return _make(_Texts, len(parts), b"".join(parts))
    distinct = set(values)
    known = {text: _text(text) for text in distinct}
    return _make(_Texts, len(values), b"".join([known[v] for v in values]), nulls=None in known)


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    raw = value.encode()
    return _INT4(len(raw)) + raw


def instants(values: Sequence[datetime | None]) -> Column:
    """Return a timestamptz[]; an instant that occurs often is encoded once."""
    if _is_few(values):
        return Few(_Instants, [None if v is None else _INT8(_microseconds(v)) for v in values])
    if _are_same(values):
        first = values[0]
        return Same(_Instants, None if first is None else _INT8(_microseconds(first)), len(values))
    known = {instant: _instant(instant) for instant in set(values)}
    return _make(_Instants, len(values), b"".join([known[v] for v in values]), nulls=None in known)


def _instant(value: datetime | None) -> bytes:
    return _NULL if value is None else struct.pack(">iq", 8, _microseconds(value))


def _microseconds(value: datetime) -> int:
    return (value - _EPOCH) // _MICROSECOND


def booleans(values: Sequence[bool]) -> Column:
    """Return a boolean[]."""
    if _is_few(values):
        return Few(_Booleans, [bytes([v]) for v in values])
    if _are_same(values):
        return Same(_Booleans, bytes([values[0]]), len(values))
    return _make(_Booleans, len(values), b"".join([b"\0\0\0\1" + bytes([v]) for v in values]))


def byteas(values: Sequence[bytes]) -> Column:
    """Return a bytea[]."""
    if _is_few(values):
        return Few(_Byteas, list(values))
    return _make(_Byteas, len(values), b"".join([struct.pack(">i", len(v)) + v for v in values]))


# --- Single values ------------------------------------------------------------------------------


# By type: the OID of what it becomes in Postgres, and how it is written. An integer is a bigint,
# which a column of a shorter one takes too.
_SINGLE: Final[dict[type, tuple[int, Callable[[Any], bytes | None]]]] = {
    UUID: (2950, lambda value: value.int.to_bytes(16)),
    str: (25, str.encode),
    bool: (16, lambda value: bytes([value])),
    int: (20, _INT8),
    datetime: (1184, lambda value: _INT8(_microseconds(value))),
    bytes: (17, bytes),
    type(None): (0, lambda _value: None),
    **{kind: (kind.array_oid, bytes) for kind in _Array.__subclasses__()},
}


def encode(value: object) -> tuple[int, bytes | None]:
    """
    Return the OID of a value's type in Postgres, and the value in binary.

    :raises TypeError: for a type that no statement sends
    """
    if type(value) is Few or type(value) is Same:
        return value.kind.array_oid, _as_array(value)
    try:
        oid, write = _SINGLE[type(value)]
    except KeyError:
        msg = f"{type(value).__name__} is no type that a statement sends."
        raise TypeError(msg) from None
    return oid, write(value)


def _as_array(column: Few | Same) -> bytes:
    parts = [_NULL if v is None else _INT4(len(v)) + v for v in column.values]
    if type(column) is Same:
        parts *= column.rows
    return _make(column.kind, len(parts), b"".join(parts), nulls=_NULL in parts)


def count_of(column: _Array | Same) -> int:
    """Return how many values a column has."""
    # An array of none has no dimension.
    return column.rows if type(column) is Same else int.from_bytes(column[12:16])


def encode_one(column: Few | Same | None, place: int) -> tuple[int, bytes | None]:
    """Return the same of one value of a column; one that is not there is null throughout."""
    return (0, None) if column is None else (column.kind.element_oid, column.values[place])
