"""Whether what has had its time goes as fast as new rows come."""

from typing import Final

from bench import children, database
from bench._registry import Figure, benchmark
from bench._rounds import reduced

_KEYS: Final = 2_000_000
# At a thousand requests a second, and a job that has nine tenths of its time left.
_KEYS_A_SECOND: Final = 10_000


@benchmark
def keys_purged() -> Figure:
    """Idempotency keys that had their time, removed from among four times as many."""
    keys = reduced(_KEYS)
    with database.scratch("keys") as name:
        measured = children.ask(
            "bench._purging", {"keys": keys}, environment=database.environment(name)
        )
    return Figure(
        name="keys_purged", value=measured["removed_per_s"], unit="keys/s", must=_KEYS_A_SECOND,
        how=f"one pass of the job over {keys:,} keys, the oldest quarter of which is over",
        detail={name: round(found, 1) for name, found in measured.items()},
    )  # fmt: skip
