"""
How a statement is written for the values that it is given (docs/adr/0116).

Names become numbers, and each `unnest` what Postgres makes the least work of: its few rows as
VALUES, or its columns of one value as that value. Shapes are few, so are statements to prepare.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

from apps.core._arrays import Few, Same, count_of

_COLUMN: Final = re.compile(r"%\((\w+)\)s(::\w+)\[\]")
# Before columns that mostly have one value for all rows; the more often, the further in front.
_SAME: Final = "/* same */"
# What takes its place names columns only where they are named after it: else Postgres would name
# them anew, and an `unnest` that is no table is a value for each row.
_UNNEST: Final = re.compile(
    rf"\bunnest\(((?:\s*(?:{re.escape(_SAME)}\s*)?{_COLUMN.pattern},?)+)\)"
    r"(\s+WITH\s+ORDINALITY)?(?=\s+AS\s+\w+\s*\()"
)

# How an `unnest` is written: above zero as VALUES of so many rows; below it with the columns of so
# many levels as values that are the same in all rows; at zero as it stands.
type _Shape = int
type _Levels = tuple[tuple[str, ...], ...]


class Statement(NamedTuple):
    """As the protocol has it; for each number the value's name, and its place in a column."""

    sql: bytes
    values: tuple[tuple[str, int | None], ...]


def spell(text: str, values: Mapping[str, object]) -> Statement:
    """Return the statement as it is sent with these values."""
    return _spelled(text, tuple([_shape(values, levels) for levels in _unnested(text)]))


@lru_cache(maxsize=256)
def _unnested(text: str) -> tuple[_Levels, ...]:
    """Return the names of the columns of each `unnest` of a statement, level by level."""
    return tuple(
        tuple(tuple(name for name, _ in _COLUMN.findall(level)) for level in found[1].split(_SAME))
        for found in _UNNEST.finditer(text)
    )


def _shape(values: Mapping[str, object], levels: _Levels) -> _Shape:
    """Return how an `unnest` of these columns is best written."""
    first = values[levels[0][0]]
    if first is None:
        return 0
    if type(first) is not Few:
        return -1 - _same(values, levels, count_of(cast("Any", first)))
    count = len(first.values)
    for names in levels:
        for name in names:
            column = values[name]
            if column is not None and (type(column) is not Few or len(column.values) != count):
                return 0
    return count


def _same(values: Mapping[str, object], levels: _Levels, count: int) -> int:
    """Return how many levels behind the first are of columns of one value for all of the rows."""
    found = 0
    for names in levels[1:]:
        for name in names:
            column = values[name]
            if column is not None and (type(column) is not Same or column.rows != count):
                return found
        found += 1
    return found


@lru_cache(maxsize=1024)
def _spelled(text: str, shapes: tuple[_Shape, ...]) -> Statement:
    """
    Return a statement, each of its `unnest`s written in its shape.

    Rows that Postgres has before it plans cost half of what a function that returns them does: it
    writes one row with a plan it keeps, and joins nothing. And of a function's columns it makes a
    table each, which is for nothing where they hold one value (docs/adr/0116).
    """
    given = iter(shapes)

    def write(found: re.Match[str]) -> str:
        shape = next(given)
        if not shape:
            return found[0]
        return _as_values(found, shape) if shape > 0 else _as_rows(found, -1 - shape)

    numbers: dict[str, int] = {}
    sql = re.sub(
        r"%\(([\w:]+)\)s",
        lambda found: f"${numbers.setdefault(found[1], len(numbers) + 1)}",
        _UNNEST.sub(write, text),
    )
    parts = [name.partition(":") for name in numbers]
    return Statement(
        sql.encode(), tuple((name, int(place) if place else None) for name, _, place in parts)
    )


def _as_values(unnest: re.Match[str], count: int) -> str:
    columns = [f"%({name}:{{0}})s{cast}" for name, cast in _COLUMN.findall(unnest[1])]
    if unnest[4]:
        columns.append("{1}::bigint")
    row = ", ".join(columns)
    rows = ", ".join(f"({row.format(place, place + 1)})" for place in range(count))
    return f"(VALUES {rows})"


def _as_rows(unnest: re.Match[str], levels: int) -> str:
    """Return it as rows made one by one, the columns of so many levels as values in each."""
    chosen: list[str] = []
    made: list[str] = []
    first = None
    for level, part in enumerate(unnest[1].split(_SAME)):
        for name, kind in _COLUMN.findall(part):
            if 0 < level <= levels:
                chosen.append(f"%({name}:0)s{kind}")
                continue
            column = f"%({name})s{kind}[]"
            first = first or column
            # Not by their own names, which may be words of Postgres'.
            chosen.append(f"c{len(made)}")
            made.append(f"unnest({column}) AS c{len(made)}")
    if unnest[4]:
        chosen.append("place")
        made.append(f"generate_series(1::bigint, cardinality({first})) AS place")
    rows = f"(SELECT {', '.join(made)}) AS given"
    return f"(SELECT {', '.join(chosen)} FROM {rows})"  # noqa: S608  (the statement's own)
