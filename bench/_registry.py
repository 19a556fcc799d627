"""What a benchmark is, and the list of them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value beside its reference; without a `ratio` the bounds are values."""

    name: str
    value: float
    unit: str
    reference: float | None
    ratio: float | None
    must: float | None
    aim: float | None
    rounds: int
    lower_is_better: bool = False

    def as_row(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def verdict(self) -> str:
        """Return `aim`, `must`, or `below`; nothing is judged without a bound."""
        measured = self.value if self.ratio is None else self.ratio
        if self.must is None:
            return ""
        for name, bound in (("aim", self.aim), ("must", self.must)):
            if bound is None:
                continue
            if (measured <= bound) if self.lower_is_better else (measured >= bound):
                return name
        return "below"


type Benchmark = Callable[[], Figure]

BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(run: Benchmark) -> Benchmark:
    """Register a benchmark under its function's name."""
    BENCHMARKS[run.__name__] = run
    return run
