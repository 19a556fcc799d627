"""
What gathers for the express lane: requests of many API keys, answered by turns on one thread.

Whoever sends the same token is the same caller, if it is one at all. A thread takes
what waits under several keys, has all of it admitted together, and then answers it part by part, a
part being what one organization asks. So what one request costs at least, a trip to Redis or a
hint to the loop, is shared by those of many keys (docs/adr/0091, 0125). No key waits long for
another: a part that takes its time leaves those behind it to another thread, and organizations
whose parts do so have only some of the threads (`pacing`, docs/adr/0133).
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final
from uuid import UUID

from django.db import close_old_connections

from apps.core.api import places
from config.bodies import Body
from config.environ import Scope
from config.express import Answer, ExpressLane, Part
from config.pacing import Pacing
from config.turns import Crowded, Request, Told, Turn, tell

# So many requests, of so many keys, are admitted before the first of them is answered.
_BATCH_MAX: Final = 128
_KEYS_MAX: Final = 16
# A key with so many has enough to share by itself: its turn is its own.
_BUSY_MIN: Final = 8
# For so long a thread keeps its database connection before others may have it.
_TURN_SECONDS: Final = 0.05
# For so long after the end of a turn one that begins with a key of it waits for as many as it had.
# Who asks again as soon as they are answered, and who happens to ask meanwhile, are then of one
# turn, not of two that each pay what a turn costs (docs/adr/0177).
_GATHER_SECONDS: Final = 0.002
# A part that takes longer is waiting for something: what was answered before it is told by then,
# and other threads go on with what is behind it.
_SLOW_SECONDS: Final = 0.02
# More threads at work make each batch smaller and take the interpreter from each other.
_THREADS: Final = 2


class Gathering:
    """Hands what waits under the keys to the lane, on a few threads; `threads` is all of them."""

    def __init__(self, lane: ExpressLane, *, threads: int) -> None:
        self._lane = lane
        self._threads = min(_THREADS, threads)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="lane")
        # For what would wait while those wait.
        self._spares = max(1, threads - _THREADS)
        self._spare = ThreadPoolExecutor(self._spares, thread_name_prefix="spare")
        # Of two parts of an organization one writes, and one waits with the next batch.
        self._pacing = Pacing[UUID, tuple[Turn, Part]](
            of_one_max=2, of_slow_one_max=1, slow_max=(self._threads + self._spares) // 2
        )
        # What was kept back and is begun by now, for the next thread that asks.
        self._ready: deque[tuple[Turn, Part]] = deque()
        # How many of those are asked for and have not begun.
        self._awaited = 0
        # How many threads are at a turn that they took from the line.
        self._serving = 0
        # By key, what no thread has taken yet; a key is here while it waits for a thread, in line,
        # or is at one: so it is at one thread at a time.
        self._waiting: dict[str, deque[Request]] = {}
        self._line: deque[str] = deque()
        self._at_work: set[str] = set()
        self._turns: set[Turn] = set()
        # Whether a thread is on its way that will take what is in line.
        self._is_called = False
        self._lock = threading.Lock()
        # How many wait under the keys in line; how many the last turn had, of which keys, and when
        # one ended last.
        self._waits = 0
        self._had = 0
        self._had_keys: frozenset[str] = frozenset()
        self._ended = 0.0
        self._are_enough = threading.Condition(self._lock)
        # The loop's alone.
        self._watch: asyncio.TimerHandle | None = None

    def keeps_waiting(self, scope: Scope) -> bool:
        """
        Say whether what is asked now waits for a thread at work, while its body may come.

        All threads are at work, or one of them for its key. Who is waited for by a thread that only
        gathers must be here whole: they may be the last, and are taken at once.
        """
        return self._serving >= self._threads or _key_of(scope) in self._at_work

    async def answer(self, scope: Scope, body: Body) -> Answer | None:
        """
        Have the lane answer a request; None if it is Django's.

        :raises ApiProblem: `rate_limited` (429), if as many wait as its key may have at once
        :raises NotHere: if its body was not here when its turn was
        :raises Crowded: if it was not begun
        :raises Failed: if the lane failed in the middle
        """
        loop = asyncio.get_running_loop()
        key = _key_of(scope)
        request = Request(key, scope, body, loop.create_future())
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is None:
                self._waiting[key] = deque([request])
                self._line.append(key)
            elif len(waiting) < places.at_once_max():
                waiting.append(request)
            else:
                raise places.too_many()
            if key not in self._at_work:
                self._count(1)
        if waiting is None:
            self._call()
        if self._watch is None:
            self._watch = loop.call_later(_SLOW_SECONDS, self._look, loop)
        return await request.answered

    def close(self) -> None:
        """Answer what has gathered, and end."""
        self._pool.shutdown(wait=True)
        self._spare.shutdown(wait=True)

    def _call(self) -> None:
        """Have a thread take what is in line, unless one is on its way."""
        with self._lock:
            if self._is_called or not self._line:
                return
            self._is_called = True
        try:
            self._pool.submit(self._serve)
        # The pool is shut down, or the system has no thread to spare.
        except RuntimeError:
            with self._lock:
                self._is_called = False
                abandoned = [one for key in self._line for one in self._waiting.pop(key)]
                self._line.clear()
                self._waits -= len(abandoned)
            tell([(request, Crowded()) for request in abandoned])

    def _serve(self) -> None:
        """Answer what is in line, for a turn, on a thread of the lane."""
        until = time.monotonic() + _TURN_SECONDS
        try:
            while (turn := self._take()) is not None:
                try:
                    turn.admit(self._lane, partial(self._note, turn))
                    self._work(turn)
                finally:
                    with self._lock:
                        self._serving -= 1
                if time.monotonic() >= until:
                    # Behind whatever else a thread is wanted for; the connection is looked at then.
                    self._call()
                    return
        finally:
            close_old_connections()

    def _take(self) -> Turn | None:
        """Return what waits under the first keys in line, as a turn; None if nothing does."""
        taken: list[Request] = []
        with self._lock:
            # Without the memory to wait, what is there is taken: no later thread would be called.
            with suppress(MemoryError, RuntimeError):
                self._gather()
            self._is_called = False
            keys = 0
            while self._line and keys < _KEYS_MAX and len(taken) < _BATCH_MAX:
                waiting = self._waiting[self._line[0]]
                is_busy = len(waiting) >= _BUSY_MIN
                if is_busy and taken:
                    break
                self._at_work.add(self._line.popleft())
                self._waits -= len(waiting)
                room = min(len(waiting), _BATCH_MAX - len(taken))
                taken += [waiting.popleft() for _ in range(room)]
                keys += 1
                if is_busy:
                    break
            if not taken:
                return None
            self._serving += 1
            self._had = len(taken)
            turn = Turn(taken)
            self._had_keys = frozenset(turn.left)
            self._turns.add(turn)
            is_more = bool(self._line)
        if is_more:
            self._call()
        return turn

    def _gather(self) -> None:
        """Wait until as many wait as the last turn had, for a moment. Called with the lock held."""
        left = self._ended + _GATHER_SECONDS - time.monotonic()
        # A key that had no part in it has nobody to wait for.
        if left <= 0 or not self._line or self._line[0] not in self._had_keys:
            return
        # What comes meanwhile is taken by this thread and needs no other.
        self._is_called = True
        # Where two threads wait, one takes all.
        self._are_enough.wait_for(lambda: self._waits >= self._had or not self._line, left)

    def _work(self, turn: Turn) -> None:
        """Answer the parts of a turn that no other thread has begun."""
        while turn.parts:
            try:
                part = turn.parts.popleft()
            # Another thread was first.
            except IndexError:
                break
            turn.begun = time.monotonic()
            if part.organization_id is None:
                self._note(turn, turn.answer(part))
                continue
            if self._pacing.begin(part.organization_id, (turn, part)):
                self._carry_out(turn, part, part.organization_id)
            if not self._hand_over():
                self._go_on()
        self._tell(turn)

    def _carry_out(self, turn: Turn, part: Part, organization_id: UUID) -> None:
        """Answer a part that was begun; the caller sees to what may be begun after it."""
        try:
            self._note(turn, turn.answer(part))
        finally:
            self._pacing.end(organization_id, (turn, part))

    def _hand_over(self) -> bool:
        """Have spare threads answer what was kept back and may be begun; false if none is there."""
        ready = self._pacing.ready()
        self._ready += ready
        try:
            for _ in ready:
                self._spare.submit(self._go_on)
        # As at `_call`. Where there is no thread to spare one may come all the same, some time:
        # so none is told what to answer, and whoever comes too late finds nothing.
        except RuntimeError:
            return False
        return True

    def _go_on(self) -> None:
        """Answer what was kept back and may be begun."""
        while self._ready:
            try:
                turn, part = self._ready.popleft()
            # Another thread was first.
            except IndexError:
                break
            assert part.organization_id is not None  # noqa: S101  (nobody's part is never kept)
            try:
                self._carry_out(turn, part, part.organization_id)
                # With nobody there it is this thread that goes on with them.
                self._hand_over()
                self._tell(turn)
            finally:
                close_old_connections()
            self._call()

    def _note(self, turn: Turn, answered: list[Told]) -> None:
        with self._lock:
            turn.answered += answered

    def _tell(self, turn: Turn) -> None:
        """Have each request told its answer, and let keys that have all of theirs line up anew."""
        with self._lock:
            told, turn.answered = turn.answered, []
            for request, _answer in told:
                turn.left[request.key] -= 1
                if not turn.left[request.key]:
                    del turn.left[request.key]
                    self._let_go(request.key)
            is_over = not turn.left
            if is_over:
                self._turns.discard(turn)
                self._ended = time.monotonic()
        tell(told)
        # At its end the thread looks for more by itself.
        if not is_over:
            self._call()

    def _let_go(self, key: str) -> None:
        """Put a key in line again, if something waits under it. Called with the lock held."""
        self._at_work.discard(key)
        if waiting := self._waiting[key]:
            self._line.append(key)
            self._count(len(waiting))
        else:
            del self._waiting[key]

    def _count(self, more: int) -> None:
        """Count what is in line now, for a thread that gathers. Called with the lock held."""
        self._waits += more
        if self._waits >= self._had:
            self._are_enough.notify_all()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that no answer, part or key waits for a part that is slow."""
        # First, so that nothing that befalls this one is the last.
        self._watch = loop.call_later(_SLOW_SECONDS, self._look, loop) if self._waiting else None
        since = time.monotonic() - _SLOW_SECONDS
        with self._lock:
            slow = [turn for turn in self._turns if turn.begun < since]
            are_all_slow = len(slow) == len(self._turns)
        self._pacing.look()
        for turn in slow:
            if turn.answered:
                self._tell(turn)
            if turn.parts:
                self._ask_spare(self._help, turn)
        if slow and are_all_slow and self._line:
            self._ask_spare(self._serve)

    def _ask_spare(self, work: Callable[..., None], *args: Turn) -> None:
        with self._lock:
            if self._awaited >= self._spares:
                return
            self._awaited += 1
        # While the process ends, or has no thread to spare, those that wait go on alone.
        with suppress(RuntimeError):
            self._spare.submit(self._begin, work, *args)

    def _begin(self, work: Callable[..., None], *args: Turn) -> None:
        with self._lock:
            self._awaited -= 1
        work(*args)

    def _help(self, turn: Turn) -> None:
        """Go on with a turn whose thread waits for something."""
        try:
            self._work(turn)
        finally:
            close_old_connections()
        self._call()


def _key_of(scope: Scope) -> str:
    # Without the scheme, which may be written in many ways.
    return (scope.headers.get("authorization") or "").rpartition(" ")[2]
