"""Rounds: each figure is a median, so that one disturbed round decides nothing."""

import os
import statistics
from collections.abc import Callable, Sequence
from typing import Final

ROUNDS: Final = 3
# The environment is for whoever works on a benchmark: a run that is shorter or smaller than stated
# prints its table and is not kept.
SECONDS_STATED: Final = 8.0
POSTINGS_STATED: Final = 10_000_000
SECONDS: Final = float(os.environ.get("KASSA_BENCH_SECONDS", SECONDS_STATED))
POSTINGS: Final = int(os.environ.get("KASSA_BENCH_POSTINGS", POSTINGS_STATED))
IS_KEPT: Final = not {"KASSA_BENCH_SECONDS", "KASSA_BENCH_POSTINGS"} & os.environ.keys()
WARM_UP_SECONDS: Final = SECONDS / 2

HOW: Final = f"median of {ROUNDS} rounds of {SECONDS:g} s, {WARM_UP_SECONDS:g} s warm-up"


def median(measure: Callable[[], float]) -> float:
    """Return the median of the rounds; whoever measures has warmed up before."""
    return statistics.median(measure() for _ in range(ROUNDS))


def medians(*measures: Callable[[], float]) -> list[float]:
    """Return each one's median, their rounds taken in turns: what drifts, drifts under all."""
    rounds = [[measure() for measure in measures] for _ in range(ROUNDS)]
    return [statistics.median(values) for values in zip(*rounds, strict=True)]


def middle[T](results: Sequence[T], *, key: Callable[[T], float]) -> T:
    """Return the round that is the median by `key`, with all that was seen in it."""
    return sorted(results, key=key)[len(results) // 2]


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return the value below which this part of the ordered values lies; 0 where there are none."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def shortened(seconds: float) -> float:
    """Return a stated time, shorter by as much as the rounds of this run are."""
    return seconds * SECONDS / SECONDS_STATED


def reduced(count: int) -> int:
    """Return a stated count, smaller by as much as the postings of this run are; at least one."""
    return max(1, count * POSTINGS // POSTINGS_STATED)
