"""
How passwords are hashed: Argon2, and few at once.

A hash takes 100 MiB of memory and a tenth of a second of several cores, by design. So a process has
two at work, and who hashes holds no connection of the pool meanwhile (ADR 0143).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, override

from django.contrib.auth.hashers import Argon2PasswordHasher

from apps.core import transactions

AT_ONCE_MAX: Final = 2
_WAIT_SECONDS_MAX: Final = 1.0

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
        with _turn():
            return super().encode(password, salt)

    @override
    def verify(self, password: str, encoded: str) -> bool:
        """
        Say whether this is the password.

        :raises HashersBusy: if its turn does not come
        """
        with _turn():
            return super().verify(password, encoded)


@contextmanager
def _turn() -> Iterator[None]:
    transactions.release_connection()
    if not _turns.acquire(timeout=_WAIT_SECONDS_MAX):
        raise HashersBusy
    try:
        yield
    finally:
        _turns.release()
