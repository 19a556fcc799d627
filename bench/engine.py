"""The posting engine without HTTP, as the benchmarks of several modules drive it."""

from typing import Final

from bench import children, database
from bench._rounds import SECONDS, WARM_UP_SECONDS
from bench.books import Books

BATCH: Final = 8_000


def bulk_per_second(name: str, books: Books, *, writers: int) -> float:
    """Return transfers per second of `writers` processes, each with its part of the accounts."""
    part = len(books.accounts) // writers
    orders = [
        {
            "organization": str(books.organization_id),
            "accounts": [str(id_) for id_ in books.accounts[place * part : (place + 1) * part]],
            "size": BATCH,
            "seconds": SECONDS,
            "warm_up": WARM_UP_SECONDS,
        }
        for place in range(writers)
    ]
    answers = children.together(
        "bench._bulk_writer", orders, environment=database.environment(name)
    )
    return float(sum(answer["per_second"] for answer in answers))
