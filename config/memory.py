"""Garbage collection, for what is loaded once and for batches of thousands."""

import gc
from typing import Final

# A batch of thousands of transfers is a hundred thousand objects that all live until its COMMIT:
# looking through them every 2,000 allocations found nothing, and took a fifth of the time; every
# 50,000 it is still a tenth of what Python does for a transfer of a batch (15.4 µs, 13.6 so). Nor
# does it find anything while a process loads what it is made of, which takes it a twelfth less so.
_ALLOCATIONS: Final = 100_000


def collect_seldom() -> None:
    """Look for garbage less often; called as soon as anything of ours is loaded."""
    gc.set_threshold(_ALLOCATIONS, 10, 10)


def settle() -> None:
    """
    Take what is loaded by now out of every later collection; call once all is imported.

    Modules, models and routes live as long as the process does.
    """
    gc.collect()
    gc.freeze()
