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

# From so many rows on values are taken from the columns row by row. Where there are fewer, planning
# that costs more than it saves.
_MANY: Final = 250

# How an `unnest` is written: above zero as VALUES of so many rows; below it with the columns of so
# many levels as values that are the same in all rows; at zero as it stands. `_BY_ROW` less than
# that it is written row by row.
type _Shape = int
_BY_ROW: Final = 100
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
        count = count_of(cast("Any", first))
        return -_same(values, levels, count) - (_BY_ROW if count >= _MANY else 0)
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
    table each, which is for nothing where they hold one value, or where all that is wanted of them
    is the next (docs/adr/0116).
    """
    given = iter(shapes)

    def write(found: re.Match[str]) -> str:
        shape = next(given)
        if not shape:
            return found[0]
        if shape > 0:
            return _as_values(found, shape)
        return _with_same(found, -shape % _BY_ROW, by_row=shape <= -_BY_ROW)

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


def _with_same(unnest: re.Match[str], levels: int, *, by_row: bool) -> str:
    """Return it with the columns of so many levels as values, all in their order."""
    chosen: list[str] = []
    arrays: list[str] = []
    for level, part in enumerate(unnest[1].split(_SAME)):
        for name, kind in _COLUMN.findall(part):
            if 0 < level <= levels:
                chosen.append(f"%({name}:0)s{kind}")
            else:
                # Not by their own names, which may be words of Postgres'.
                chosen.append(f"c{len(arrays)}")
                arrays.append(f"%({name})s{kind}[]")
    names = [f"c{place}" for place in range(len(arrays))]
    if unnest[4]:
        chosen.append("place")
        names.append("place")
    if not by_row:
        table = f"unnest({', '.join(arrays)}){unnest[4] or ''} AS given({', '.join(names)})"
        return f"(SELECT {', '.join(chosen)} FROM {table})"  # noqa: S608  (the statement's own)
    # Each of them is at its next value in every row.
    made = [f"unnest({array})" for array in arrays]
    if unnest[4]:
        made.append(f"generate_series(1::bigint, cardinality({arrays[0]}))")
    rows = f"(SELECT {', '.join(made)}) AS given({', '.join(names)})"
    return f"(SELECT {', '.join(chosen)} FROM {rows})"  # noqa: S608  (the statement's own)
