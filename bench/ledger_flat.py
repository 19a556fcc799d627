"""The same books with a hundred times the history (ledger.md, section 8): writes, and reads."""

from functools import partial
from typing import Final

from bench import children, database, engine, seeded
from bench._registry import Figure, benchmark
from bench._rounds import HOW, medians, reduced
from bench.driving import Order, drive, warm_up, web

READ_MS_MAX: Final = 300
# What a minute brings, after which the sealer comes again.
_UNSEALED: Final = 60_000


@benchmark
def ledger_flat() -> list[Figure]:
    """Single transfers and batches with 10 million postings present against 100,000, in turns."""
    with seeded.copy_of(seeded.SMALL) as small, seeded.copy_of(seeded.LARGE) as large:
        return [_flat_single(small, large), _flat_bulk(small, large)]


def _flat_single(small: str, large: str) -> Figure:
    order = Order()
    few, many = seeded.books(small)[:1], seeded.books(large)[:1]
    with web(small) as small_port, web(large) as large_port:
        warm_up(small_port, few, order)
        warm_up(large_port, many, order)
        reference, value = medians(
            lambda: drive(small_port, few, order).per_second,
            lambda: drive(large_port, many, order).per_second,
        )
    return _figure("ledger_flat_single", value, reference)


def _flat_bulk(small: str, large: str) -> Figure:
    [few], [many] = seeded.books(small), seeded.books(large)
    reference, value = medians(
        partial(engine.bulk_per_second, small, few, writers=2),
        partial(engine.bulk_per_second, large, many, writers=2),
    )
    return _figure("ledger_flat_bulk", value, reference)


def _figure(name: str, value: float, reference: float) -> Figure:
    return Figure(
        name=name, value=value, unit="transfers/s", against=seeded.SMALL.about,
        reference=reference, must=0.85, aim=0.95,
        how=f"{seeded.LARGE.about}, in turns with {seeded.SMALL.about}; {HOW}",
    )  # fmt: skip


@benchmark
def ledger_reads() -> list[Figure]:
    """Each read of `bench._reads` with 10 million postings present: the slowest of twenty in ms."""
    name = seeded.made(seeded.LARGE)
    environment = database.environment(name) | {
        # The template stays as it is.
        "PGOPTIONS": "-c default_transaction_read_only=on",
    }
    answers = children.ask("bench._reads", {"rounds": 20}, environment=environment)
    with seeded.copy_of(seeded.LARGE) as copy:
        answers |= children.ask(
            "bench._reads",
            {"rounds": 20, "unsealed": reduced(_UNSEALED)},
            environment=database.environment(copy),
        )
    return [
        Figure(
            name=f"ledger_reads_{read}", value=seen["slowest"], unit="ms", must=READ_MS_MAX,
            lower_is_better=True, detail={"median_ms": round(seen["median"], 1)},
            how=f"slowest of 20 over the busiest accounts, {seeded.LARGE.about}, after one warm-up",
        )
        for read, seen in answers.items()
    ]  # fmt: skip
