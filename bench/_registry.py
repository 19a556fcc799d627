"""What a benchmark is, and the list of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

TPCB: Final = "tpcb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """
    One measured value beside its reference; without a reference the bounds are of the value.

    `against` names the reference. TPC-B's value is filled in at the end of a run, since it is
    measured before and after everything else. `how` says rounds and warm-up, `detail` holds what
    was seen besides.
    """

    name: str
    value: float
    unit: str
    how: str
    against: str = ""
    reference: float | None = None
    must: float | None = None
    aim: float | None = None
    lower_is_better: bool = False
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.value / self.reference if self.against and self.reference else None

    def beside_tpcb(self, transactions_per_second: float) -> Self:
        """Return the figure with TPC-B's value in it, if that is its reference."""
        if self.against != TPCB:
            return self
        return replace(self, reference=transactions_per_second)

    def as_row(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "against": self.against,
            "reference": self.reference,
            "ratio": self.ratio,
            "must": self.must,
            "aim": self.aim,
            "lower_is_better": self.lower_is_better,
            "reached": self.verdict,
            "how": self.how,
            "detail": self.detail,
        }

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


type Benchmark = Callable[[], Figure | list[Figure]]

BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(run: Benchmark) -> Benchmark:
    """Register a benchmark under its function's name."""
    BENCHMARKS[run.__name__] = run
    return run
