"""For whom the threads of a worker's process are at work, and who may have one more (ADR 0146)."""

import threading
from typing import Final
from uuid import UUID

# One thread in so many is kept for organizations that have none.
_KEPT_OF: Final = 4


class Threads:
    """
    The threads that send webhooks in one process, by the organization each is at work for.

    A thread is taken until a receiver has answered, or did not within its time. So the last quarter
    is for organizations that have none: however many lanes another has, it takes none of these.
    """

    def __init__(self, number: int = 0) -> None:
        # Of a number that nobody has said none is kept.
        self.number = number
        self._at_work: dict[int, UUID] = {}
        self._lock = threading.Lock()

    def list_full(self) -> list[UUID]:
        """Return the organizations that may not have another thread now."""
        with self._lock:
            return list(set(self._at_work.values())) if self._is_kept() else []

    def take(self, organization_id: UUID) -> bool:
        """Have the calling thread be at work for the organization, if that may have it."""
        with self._lock:
            # What it was at is over, also where nobody said so.
            self._at_work.pop(threading.get_ident(), None)
            if self._is_kept() and organization_id in self._at_work.values():
                return False
            self._at_work[threading.get_ident()] = organization_id
            return True

    def leave(self) -> None:
        """Have the calling thread be at work for nobody."""
        with self._lock:
            self._at_work.pop(threading.get_ident(), None)

    def _is_kept(self) -> bool:
        """Say whether the threads that are free now are those that are kept."""
        return 0 < self.number - len(self._at_work) <= self.number // _KEPT_OF
