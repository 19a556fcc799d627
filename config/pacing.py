"""
Which part of the lane's work is begun when: no organization keeps the lane's threads to itself.

A part of one organization may wait for a row that somebody holds, and a thread with it. So there
are never more than two parts of an organization at work, one of which writes while the other
gathers; and one whose part took long has a single part at work for the next moments, on a thread
that it shares with others like it. They have half of the threads at most, so that clients of all
others find the lane as it ever is (docs/adr/0133).
"""

import threading
import time
from collections import deque
from typing import Final
from uuid import UUID

# What has not ended by then waits for something. A full batch takes a tenth of it.
_SLOW_SECONDS: Final = 0.25
# For so long an organization is taken to be slow since it last was.
_SLOW_FOR_SECONDS: Final = 10.0
# One writes, and one waits with the next batch.
_OF_ONE_MAX: Final = 2


class Pacing[Work]:
    """Keeps what may not be begun yet; `slow_max` is for how many threads slow ones have."""

    def __init__(self, *, slow_max: int) -> None:
        self._slow_max = slow_max
        # By organization: when what is at work was begun, and what waits; who has waited longest
        # is first.
        self._at_work: dict[UUID, list[tuple[Work, float]]] = {}
        self._waiting: dict[UUID, deque[Work]] = {}
        self._slow_until: dict[UUID, float] = {}
        self._lock = threading.Lock()

    def begin(self, organization_id: UUID, work: Work) -> bool:
        """Say whether a piece of work is to be begun at once; if not, `ready` has it some time."""
        with self._lock:
            # A slow one's is not for the thread that happens to ask.
            if not self._is_slow(organization_id) and self._may_begin(organization_id):
                self._note_begun(organization_id, work)
                return True
            self._waiting.setdefault(organization_id, deque()).append(work)
            return False

    def end(self, organization_id: UUID, work: Work) -> None:
        """Note that a piece of an organization's work has ended; `ready` may have more then."""
        with self._lock:
            # Which of two it was: a dry run ends beside one that waits for somebody's row.
            left = [one for one in self._at_work[organization_id] if one[0] != work]
            if left:
                self._at_work[organization_id] = left
            else:
                del self._at_work[organization_id]

    def ready(self) -> list[Work]:
        """Return what is to be begun now of what was kept."""
        ready: list[Work] = []
        with self._lock:
            for organization_id in list(self._waiting):
                if not self._may_begin(organization_id):
                    continue
                waiting = self._waiting.pop(organization_id)
                ready.append(waiting.popleft())
                self._note_begun(organization_id, ready[-1])
                if waiting:
                    # Behind all others.
                    self._waiting[organization_id] = waiting
        return ready

    def look(self) -> None:
        """Note which organizations are slow."""
        now = time.monotonic()
        with self._lock:
            slow = [
                organization_id
                for organization_id, begun in self._at_work.items()
                if begun[0][1] < now - _SLOW_SECONDS
            ]
            if slow:
                # Those that are not any more are forgotten on the way.
                known = {id_: until for id_, until in self._slow_until.items() if until > now}
                self._slow_until = known | dict.fromkeys(slow, now + _SLOW_FOR_SECONDS)

    def _may_begin(self, organization_id: UUID) -> bool:
        at_work = len(self._at_work.get(organization_id, ()))
        if self._is_slow(organization_id):
            return not at_work and self._slow_at_work() < self._slow_max
        return at_work < _OF_ONE_MAX

    def _is_slow(self, organization_id: UUID) -> bool:
        return self._slow_until.get(organization_id, 0.0) > time.monotonic()

    def _slow_at_work(self) -> int:
        return sum(len(begun) for id_, begun in self._at_work.items() if self._is_slow(id_))

    def _note_begun(self, organization_id: UUID, work: Work) -> None:
        self._at_work.setdefault(organization_id, []).append((work, time.monotonic()))
