"""For whom the threads of a worker's process are at work, and who may have one more (ADR 0150)."""

import threading
from enum import IntEnum
from typing import Final
from uuid import UUID

from apps.webhooks.rules.retries import SECOND, SLOW_ABOVE_MS

# One thread in so many is kept for organizations that have none.
_KEPT_OF: Final = 4
# Among the slow endpoints, who all take longer: well within the time of an attempt.
PROMPT_AMONG_SLOW_SECONDS: Final = 10.0
# How long an endpoint that took longer, once, is no faster than that, whatever it does meanwhile.
DOUBT_SECONDS: Final = 60.0
# So many are remembered, those that were sent to last: an id each, and once more in a statement.
_REMEMBERED_MAX: Final = 4_096


class Pace(IntEnum):
    """How soon an endpoint answers: how long it may keep a thread from others."""

    # It took longer, or is not known: it may hang.
    DOUBTFUL = 0
    # No longer than those may on average that are not slow.
    FAIR = 1
    # Within a second.
    PROMPT = 2


# One thread in so many is for endpoints that are faster than that.
_FASTER_OF: Final = {Pace.DOUBTFUL: 2, Pace.FAIR: 4}


def pace_of(*, seconds: float, is_slow: bool) -> Pace:
    """Return the pace of an attempt; among slow endpoints none is merely fair."""
    if seconds <= (PROMPT_AMONG_SLOW_SECONDS if is_slow else SECOND):
        return Pace.PROMPT
    is_fair = not is_slow and seconds <= SLOW_ABOVE_MS / 1000
    return Pace.FAIR if is_fair else Pace.DOUBTFUL


class Threads:
    """
    The threads that send webhooks in one process, by the organization each is at work for.

    A thread is taken until a receiver has answered, or did not within its time. So one half is for
    endpoints that answer at a fair pace: those that hang, and those that this process has not sent
    to yet, have no more than the other half, however many they are. One quarter is for those that
    are prompt. And the last quarter is for organizations that have none: however many lanes another
    has, it takes none of these.

    Instants, `at`, are seconds by a steady clock of the process's own.
    """

    def __init__(self, number: int = 0) -> None:
        # Of a number that nobody has said none is kept.
        self.number = number
        self._at_work: dict[int, tuple[UUID, Pace]] = {}
        # Of each endpoint the pace of its last attempt, and until when it is no faster than others.
        self._seen: dict[UUID, tuple[Pace, dict[Pace, float]]] = {}
        self._lock = threading.Lock()

    def list_full(self) -> list[UUID]:
        """Return the organizations that may not have another thread now."""
        with self._lock:
            return list(self._organizations()) if self._is_kept() else []

    def list_faster(self, *, at: float) -> list[UUID] | None:
        """Return the endpoints that alone may have another thread now, or None if any may."""
        with self._lock:
            used = [pace for pace in _FASTER_OF if self._is_used(pace)]
            if not used:
                return None
            return [id_ for id_ in self._seen if self._pace(id_, at=at) > max(used)]

    def pace(self, endpoint_id: UUID, *, at: float) -> Pace:
        """Return the pace of the endpoint's last attempt, or of a slower one within a minute."""
        with self._lock:
            return self._pace(endpoint_id, at=at)

    def saw(self, endpoint_id: UUID, *, seconds: float, is_slow: bool, at: float) -> None:
        """Remember how long an endpoint kept a thread for one attempt, which ended at `at`."""
        pace = pace_of(seconds=seconds, is_slow=is_slow)
        with self._lock:
            _, doubts = self._seen.pop(endpoint_id, (pace, {}))
            self._seen[endpoint_id] = pace, {**doubts, pace: at + DOUBT_SECONDS}
            if len(self._seen) > _REMEMBERED_MAX:
                del self._seen[next(iter(self._seen))]

    def is_crowded(self) -> bool:
        """Say whether none is free of the threads among which the calling one is."""
        with self._lock:
            _, pace = self._at_work.get(threading.get_ident(), (None, Pace.PROMPT))
            if not self._is_room_for(pace):
                return True
            return self.number > 0 and self._free() <= self.number // _KEPT_OF

    def take(self, organization_id: UUID, *, pace: Pace) -> bool:
        """Have the calling thread be at work for one of the organization's endpoints, if it may."""
        with self._lock:
            # What it was at is over, also where nobody said so.
            self._at_work.pop(threading.get_ident(), None)
            if self._is_kept() and organization_id in self._organizations():
                return False
            if not self._is_room_for(pace):
                return False
            self._at_work[threading.get_ident()] = organization_id, pace
            return True

    def leave(self) -> None:
        """Have the calling thread be at work for nobody."""
        with self._lock:
            self._at_work.pop(threading.get_ident(), None)

    def _pace(self, endpoint_id: UUID, *, at: float) -> Pace:
        last, doubts = self._seen.get(endpoint_id, (Pace.DOUBTFUL, {}))
        return min([last, *(pace for pace, until in doubts.items() if at < until)])

    def _organizations(self) -> set[UUID]:
        return {organization_id for organization_id, _ in self._at_work.values()}

    def _is_kept(self) -> bool:
        """Say whether the threads that are free now are those that are kept."""
        return 0 < self._free() <= self.number // _KEPT_OF

    def _free(self) -> int:
        return self.number - len(self._at_work)

    def _is_room_for(self, pace: Pace) -> bool:
        return not any(self._is_used(each) for each in _FASTER_OF if each >= pace)

    def _is_used(self, pace: Pace) -> bool:
        """Say whether those of this pace and slower have all the threads that they may."""
        if self.number < _KEPT_OF:
            return False
        have = sum(each <= pace for _, each in self._at_work.values())
        return have >= self.number - self.number // _FASTER_OF[pace]
