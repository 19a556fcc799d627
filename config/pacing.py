"""
What is begun when in a web process: no caller keeps its threads to itself.

What a caller asks may wait for a row that somebody holds, and a thread and a connection with it. So
there is never more than a few pieces of a caller's work at work; and one whose work took long has
fewer for the next moments, and shares some of the threads with others like it. So clients of all
others find the threads as they ever are. To the express lane an organization is a caller, to the
front, which knows none, whoever sends the same Authorization header (docs/adr/0133).
"""

import threading
import time
from collections import deque
from typing import Final

# What has not ended by then waits for something. A full batch takes a tenth of it.
_SLOW_SECONDS: Final = 0.25
# For so long a caller is taken to be slow since it last was.
_SLOW_FOR_SECONDS: Final = 10.0


class Pacing[Caller, Work]:
    """
    Keeps what may not be begun yet.

    So many pieces of one caller are at work at once, fewer of one that is slow, and so many of all
    slow ones together.
    """

    def __init__(self, *, of_one_max: int, of_slow_one_max: int, slow_max: int) -> None:
        self._of_one_max = of_one_max
        self._of_slow_one_max = of_slow_one_max
        self._slow_max = slow_max
        # By caller: when what is at work was begun, and what waits; who has waited longest
        # is first.
        self._at_work: dict[Caller, list[tuple[Work, float]]] = {}
        self._waiting: dict[Caller, deque[Work]] = {}
        self._slow_until: dict[Caller, float] = {}
        self._lock = threading.Lock()

    def begin(self, caller: Caller, work: Work) -> bool:
        """Say whether a piece of work is to be begun at once; if not, `ready` has it some time."""
        with self._lock:
            # A slow one's is not for the thread that happens to ask.
            if not self._is_slow(caller) and self._may_begin(caller):
                self._note_begun(caller, work)
                return True
            self._waiting.setdefault(caller, deque()).append(work)
            return False

    def count_waiting(self, caller: Caller) -> int:
        """Return how many pieces of a caller's work are kept."""
        with self._lock:
            return len(self._waiting.get(caller, ()))

    def end(self, caller: Caller, work: Work) -> None:
        """Note that a piece of a caller's work has ended; `ready` may have more then."""
        with self._lock:
            # Which of several it was: a dry run ends beside one that waits for somebody's row.
            left = [one for one in self._at_work[caller] if one[0] != work]
            if left:
                self._at_work[caller] = left
            else:
                del self._at_work[caller]

    def ready(self) -> list[Work]:
        """Return what is to be begun now of what was kept."""
        ready: list[Work] = []
        with self._lock:
            for caller in list(self._waiting):
                if not self._may_begin(caller):
                    continue
                waiting = self._waiting.pop(caller)
                ready.append(waiting.popleft())
                self._note_begun(caller, ready[-1])
                if waiting:
                    # Behind all others.
                    self._waiting[caller] = waiting
        return ready

    def look(self) -> None:
        """Note which callers are slow."""
        now = time.monotonic()
        with self._lock:
            slow = [
                caller
                for caller, begun in self._at_work.items()
                if begun[0][1] < now - _SLOW_SECONDS
            ]
            if slow:
                # Those that are not any more are forgotten on the way.
                known = {one: until for one, until in self._slow_until.items() if until > now}
                self._slow_until = known | dict.fromkeys(slow, now + _SLOW_FOR_SECONDS)

    def _may_begin(self, caller: Caller) -> bool:
        at_work = len(self._at_work.get(caller, ()))
        if self._is_slow(caller):
            return at_work < self._of_slow_one_max and self._slow_at_work() < self._slow_max
        return at_work < self._of_one_max

    def _is_slow(self, caller: Caller) -> bool:
        return self._slow_until.get(caller, 0.0) > time.monotonic()

    def _slow_at_work(self) -> int:
        return sum(len(begun) for one, begun in self._at_work.items() if self._is_slow(one))

    def _note_begun(self, caller: Caller, work: Work) -> None:
        self._at_work.setdefault(caller, []).append((work, time.monotonic()))
