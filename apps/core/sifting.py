"""Looking for what no index leads to, so many rows at a time (ADR 0080, 0175)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q, QuerySet

# How many rows are looked at at a time: a few milliseconds.
SIFTED_ROWS: Final = 5_000
# After this long whoever looks has what was found, and where the search stopped.
PATIENCE_SECONDS: Final = 0.1

type Key = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Sifted:
    """Rows in the order that was asked for, and the key of the last looked at short of the end."""

    rows: list[Any]
    stopped: Key | None = None


def sift(
    lane: QuerySet[Any],
    sieve: Q,
    *,
    order: Sequence[str],
    beyond: Callable[[Key], Q],
    up_to: Callable[[Key], Q],
    count: int,
) -> Sifted:
    """
    Return the first `count` rows of a lane that fit, or those found when patience was over.

    The lane has an index in the `order`, whose columns are the key. `beyond` is the condition of
    rows behind a key in that order, and `up_to` that of all others, as the index can be asked for.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    names = [name.removeprefix("-") for name in order]
    found: list[Any] = []
    ahead = lane
    while True:
        # Which row is the last is read first, and once: of "the next rows" asked for again, some
        # that came meanwhile are part, and others are not.
        ends = ahead.order_by(*order).values_list(*names)
        last = next(iter(ends[SIFTED_ROWS - 1 : SIFTED_ROWS]), None)
        portion = ahead if last is None else ahead.filter(up_to(last))
        found += portion.filter(sieve).order_by(*order)[: count - len(found)]
        if last is None or len(found) >= count:
            return Sifted(found)
        if time.monotonic() > deadline:
            return Sifted(found, last)
        ahead = lane.filter(beyond(last))
