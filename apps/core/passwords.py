"""
How passwords are hashed: Argon2, and few at once.

A hash takes 100 MiB of memory and a tenth of a second of several cores, by design. So a process has
two at work, and who hashes holds no connection of the pool meanwhile (ADR 0143). It is done on a
thread that stands back for those that answer clients (ADR 0161).
"""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, override

from django.conf import settings
from django.contrib.auth.hashers import Argon2PasswordHasher

from apps.core import transactions

AT_ONCE_MAX: Final = 2
_WAIT_SECONDS_MAX: Final = 2.0
# An eighth of what whoever answers clients has, where both want the same core.
_NICER_BY: Final = 10

_turns: Final = threading.BoundedSemaphore(AT_ONCE_MAX)


class HashersBusy(Exception):
    """As many hashes as may be are at work, and none of them ended in time."""


class PacedArgon2PasswordHasher(Argon2PasswordHasher):
    """Django's, and its hashes; it waits for its turn."""

    @override
    def encode(self, password: str, salt: str) -> str:
        """
        Return the hash.

        :raises HashersBusy: if its turn does not come
        """
        return _in_turn(partial(super().encode, password, salt))

    @override
    def verify(self, password: str, encoded: str) -> bool:
        """
        Say whether this is the password.

        :raises HashersBusy: if its turn does not come
        """
        return _in_turn(partial(super().verify, password, encoded))


def _in_turn[T](work: Callable[[], T]) -> T:
    transactions.release_connection()
    if not _turns.acquire(timeout=_WAIT_SECONDS_MAX):
        raise HashersBusy
    try:
        # A thread for each, which is nothing beside a hash: none that a fork would leave behind.
        with ThreadPoolExecutor(1, initializer=_stand_back) as apart:
            return apart.submit(work).result()
    finally:
        _turns.release()


def _stand_back() -> None:
    """
    Let what this thread does wait for others, and be done on any core that the server may use.

    The threads that Argon2 starts from it do as it does; a web process itself is kept to one core.
    """
    if sys.platform == "linux":
        # Linux takes a thread's id for a process'.
        thread = threading.get_native_id()
        nice = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, nice + _NICER_BY)
        if settings.WEB_CORES:
            os.sched_setaffinity(0, settings.WEB_CORES)
