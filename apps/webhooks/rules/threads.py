"""For whom the threads of a worker's process are at work, and who may have one more (ADR 0150)."""

import threading
from typing import Final
from uuid import UUID

# One thread in so many is kept for organizations that have none.
_KEPT_OF: Final = 4
# One in so many is for endpoints that were prompt; the others may be had by any.
_PROMPT_OF: Final = 2
# Whoever answers within this keeps no thread from others for long.
PROMPT_SECONDS: Final = 1.0
# Among the slow endpoints, who all take longer: well within the time of an attempt.
PROMPT_AMONG_SLOW_SECONDS: Final = 10.0
# How long an endpoint that took longer, once, is not prompt, whatever it does meanwhile.
DOUBT_SECONDS: Final = 60.0
# So many are remembered, those that were sent to last: an id each, and once more in a statement.
_REMEMBERED_MAX: Final = 4_096


class Threads:
    """
    The threads that send webhooks in one process, by the organization each is at work for.

    A thread is taken until a receiver has answered, or did not within its time. So one half is for
    endpoints that were prompt: those that hang, and those that this process has not sent to yet,
    have no more than the other half, however many they are. And the last quarter is for
    organizations that have none: however many lanes another has, it takes none of these.

    Instants, `at`, are seconds by a steady clock of the process's own.
    """

    def __init__(self, number: int = 0) -> None:
        # Of a number that nobody has said none is kept.
        self.number = number
        self._at_work: dict[int, tuple[UUID, bool]] = {}
        # Of each endpoint whether its last attempt was prompt, and until when that is not enough.
        self._seen: dict[UUID, tuple[bool, float]] = {}
        self._lock = threading.Lock()

    def list_full(self) -> list[UUID]:
        """Return the organizations that may not have another thread now."""
        with self._lock:
            return list(self._organizations()) if self._is_kept() else []

    def list_prompt(self, *, at: float) -> list[UUID] | None:
        """Return the endpoints that alone may have another thread now, or None if any may."""
        with self._lock:
            if not self._is_half_used():
                return None
            return [id_ for id_ in self._seen if self._is_prompt(id_, at=at)]

    def is_prompt(self, endpoint_id: UUID, *, at: float) -> bool:
        """Say whether the endpoint's last attempt was prompt, as all within a minute were."""
        with self._lock:
            return self._is_prompt(endpoint_id, at=at)

    def saw(self, endpoint_id: UUID, *, seconds: float, is_slow: bool, at: float) -> None:
        """Remember how long an endpoint kept a thread for one attempt, which ended at `at`."""
        is_long = seconds > (PROMPT_AMONG_SLOW_SECONDS if is_slow else PROMPT_SECONDS)
        with self._lock:
            _, doubted_until = self._seen.pop(endpoint_id, (False, at))
            self._seen[endpoint_id] = not is_long, at + DOUBT_SECONDS if is_long else doubted_until
            if len(self._seen) > _REMEMBERED_MAX:
                del self._seen[next(iter(self._seen))]

    def is_crowded(self) -> bool:
        """Say whether none is free of the threads among which the calling one is."""
        with self._lock:
            _, is_prompt = self._at_work.get(threading.get_ident(), (None, True))
            if not is_prompt and self._is_half_used():
                return True
            return self.number > 0 and self._free() <= self.number // _KEPT_OF

    def take(self, organization_id: UUID, *, is_prompt: bool) -> bool:
        """Have the calling thread be at work for one of the organization's endpoints, if it may."""
        with self._lock:
            # What it was at is over, also where nobody said so.
            self._at_work.pop(threading.get_ident(), None)
            if self._is_kept() and organization_id in self._organizations():
                return False
            if not is_prompt and self._is_half_used():
                return False
            self._at_work[threading.get_ident()] = organization_id, is_prompt
            return True

    def leave(self) -> None:
        """Have the calling thread be at work for nobody."""
        with self._lock:
            self._at_work.pop(threading.get_ident(), None)

    def _is_prompt(self, endpoint_id: UUID, *, at: float) -> bool:
        was_prompt, doubted_until = self._seen.get(endpoint_id, (False, at))
        return was_prompt and doubted_until <= at

    def _organizations(self) -> set[UUID]:
        return {organization_id for organization_id, _ in self._at_work.values()}

    def _is_kept(self) -> bool:
        """Say whether the threads that are free now are those that are kept."""
        return 0 < self._free() <= self.number // _KEPT_OF

    def _free(self) -> int:
        return self.number - len(self._at_work)

    def _is_half_used(self) -> bool:
        """Say whether those that are not known to be prompt have all that they may."""
        if self.number < _KEPT_OF:
            return False
        doubtful = sum(not is_prompt for _, is_prompt in self._at_work.values())
        return doubtful >= self.number - self.number // _PROMPT_OF
