"""
Turns: of one organisation's long batches, and sets to be undone, a process posts one at a time.

Two of them at once share one interpreter, and where their accounts meet, one of them waits for the
other's rows with a connection in hand; meanwhile the next process, whose batch wants the same rows,
stands still. One after the other they are posted sooner (docs/adr/0140). Reading a batch and
printing its answer is no part of a turn. Between processes the row locks decide, as ever.
"""

import threading
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Final, cast
from uuid import UUID

from django.db import OperationalError

from apps.core import transactions

# From so many transfers, or entries to be undone, on a batch is long: a shorter one waits for none.
LONG: Final = 250
# Longer than a batch may take (`transaction_timeout`): what does not end by then has lost Postgres.
_WAIT_SECONDS_MAX: Final = 20.0


class _Turn:
    __slots__ = ("lock", "wanted_by")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # How many have it or wait for it: the last one takes it out of the table.
        self.wanted_by = 0


_turns: dict[UUID, _Turn] = {}
_lock: Final = threading.Lock()


def in_turn[**P, R](many: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Have an outermost operation over `many` of an organisation wait for its turn, if they are many.

    `many` is the name of its parameter that has them. The operation then also raises
    `OperationalError`, if its turn does not come, and nothing was begun (503 over the API).
    """

    def wait_for_turn(operation: Callable[P, R]) -> Callable[P, R]:
        @wraps(operation)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            is_long = len(cast("Sized", kwargs[many])) >= LONG
            with _take(cast("UUID", kwargs["organization_id"])) if is_long else nullcontext():
                return operation(*args, **kwargs)

        return run

    return wait_for_turn


@contextmanager
def _take(organization_id: UUID) -> Iterator[None]:
    """Wait for the organisation's turn in this process, in no transaction, and have it."""
    transactions.refuse_inside()
    with _lock:
        turn = _turns.setdefault(organization_id, _Turn())
        turn.wanted_by += 1
    try:
        if not turn.lock.acquire(blocking=False):
            # Whoever has the turn may need a connection, which this thread must not keep from it.
            transactions.release_connection()
            if not turn.lock.acquire(timeout=_WAIT_SECONDS_MAX):
                raise OperationalError(
                    "The batch of this organisation that is posted does not end."
                )
        try:
            yield
        finally:
            turn.lock.release()
    finally:
        with _lock:
            turn.wanted_by -= 1
            if not turn.wanted_by:
                del _turns[organization_id]
