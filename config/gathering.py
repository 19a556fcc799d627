"""
What gathers for the express lane: requests of one API key, answered by turns on one thread.

Whoever sends the same Authorization header is the same caller, if it is one at all, so what waits
under it is one batch. A key is served by one thread at a time and for a short turn; then it goes to
the end of the line, so that a busy key keeps nobody waiting (docs/adr/0091).
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Final

import structlog
from django.db import close_old_connections

from apps.core import context
from config.environ import Scope, make_environ
from config.express import Answer, ExpressLane

log = structlog.stdlib.get_logger("kassa.lane")

# So many requests of a key are answered before the first of them is.
_BATCH_MAX: Final = 128
# For so long a key is served, its thread keeping its database connection, before others are.
_TURN_SECONDS: Final = 0.05
# Whoever asked so long ago has given up by now, and asks again: what was not begun is not done.
_WAIT_SECONDS_MAX: Final = 15.0


class Crowded(Exception):
    """The request was not begun: it waited too long, or its process is ending."""


class Failed(Exception):
    """The lane itself has failed; whether the request was carried out is not known."""


class _Request:
    __slots__ = ("answered", "arrived", "body", "length", "scope")

    def __init__(
        self, scope: Scope, body: BinaryIO, length: int, answered: asyncio.Future[Answer | None]
    ) -> None:
        self.scope = scope
        self.body = body
        self.length = length
        self.answered = answered
        self.arrived = time.monotonic()


type _Answers = Sequence[Answer | None] | Exception


class Gathering:
    """Hands the requests of each key to the lane, by as many threads as it is given."""

    def __init__(self, lane: ExpressLane, *, threads: int) -> None:
        self._lane = lane
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lane")
        # By key, what no thread has taken yet; a key is here while it has its turn or awaits it.
        self._waiting: dict[str, deque[_Request]] = {}
        self._lock = threading.Lock()

    async def answer(self, scope: Scope, body: BinaryIO, length: int) -> Answer | None:
        """
        Have the lane answer a request; None if it is Django's.

        :raises Crowded: if it was not begun
        :raises Failed: if the lane failed in the middle
        """
        request = _Request(scope, body, length, asyncio.get_running_loop().create_future())
        key = scope.headers.get("authorization") or ""
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is None:
                self._waiting[key] = deque([request])
            else:
                waiting.append(request)
        if waiting is None:
            self._line_up(key)
        return await request.answered

    def close(self) -> None:
        """Answer what has gathered, and end."""
        self._pool.shutdown(wait=True)

    def _line_up(self, key: str) -> None:
        """Give the key a turn after those that wait for theirs."""
        try:
            self._pool.submit(self._serve, key)
        # The pool is shut down, or the system has no thread to spare.
        except RuntimeError:
            with self._lock:
                abandoned = self._waiting.pop(key)
            self._tell(list(abandoned), Crowded())

    def _serve(self, key: str) -> None:
        """Give a key its turn, on a thread of the lane."""
        until = time.monotonic() + _TURN_SECONDS
        try:
            while batch := self._take(key):
                self._answer(batch)
                if time.monotonic() >= until:
                    # It may be there for others, whose turn is next; and it is looked at again.
                    close_old_connections()
                    self._line_up(key)
                    return
        finally:
            close_old_connections()

    def _take(self, key: str) -> list[_Request]:
        """Return what has gathered under a key; with nothing there, the next one begins anew."""
        with self._lock:
            waiting = self._waiting[key]
            if not waiting:
                del self._waiting[key]
            return [waiting.popleft() for _ in range(min(len(waiting), _BATCH_MAX))]

    def _answer(self, batch: list[_Request]) -> None:
        since = time.monotonic() - _WAIT_SECONDS_MAX
        if batch[0].arrived < since:
            late = [request for request in batch if request.arrived < since]
            batch = batch[len(late) :]
            self._tell(late, Crowded())
        answers: _Answers = Failed()
        # What is logged here is of none of them.
        context.begin()
        try:
            answers = self._lane.answer(
                [
                    make_environ(one.scope, one.body, one.length, arrived=one.arrived)
                    for one in batch
                ]
            )
        # The boundary: views answer their own faults, so this one is of the lane itself. Even what
        # ends a thread must not end it: the key would never be served again.
        except BaseException:
            log.exception("lane_failed", size=len(batch))
        finally:
            self._tell(batch, answers)

    @staticmethod
    def _tell(batch: Sequence[_Request], answers: _Answers) -> None:
        """Have each request told its answer, on the loop; one loop serves all of a process."""
        if batch:
            batch[0].answered.get_loop().call_soon_threadsafe(_hand_out, batch, answers)


def _hand_out(batch: Sequence[_Request], answers: _Answers) -> None:
    if isinstance(answers, Exception):
        for request in batch:
            request.answered.set_exception(answers)
        return
    for request, answer in zip(batch, answers, strict=True):
        request.answered.set_result(answer)
