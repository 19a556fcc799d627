"""A socket read and written under one absolute deadline, and one limit of bytes."""

import io
import socket
import time
from typing import Final, override

BYTES_MAX: Final = 20 * 1024


def seconds_left(limit: float) -> float:
    """Return the seconds until an instant; raise TimeoutError when there are none."""
    left = limit - time.monotonic()
    if left <= 0:
        raise TimeoutError("The time for it has passed.")
    return left


class Wire:
    """
    A connected socket whose every wait ends at the same instant.

    A peer that drips one byte at a time gains nothing: the deadline is not per read.
    """

    def __init__(self, connected: socket.socket, *, deadline: float) -> None:
        self.socket = connected
        self.deadline = deadline
        self.received = 0

    def remaining(self) -> float:
        """Return the seconds left; raise TimeoutError when there are none."""
        return seconds_left(self.deadline)

    def renew(self, *, deadline: float) -> None:
        """Begin another exchange on the same connection."""
        self.deadline, self.received = deadline, 0

    def send(self, content: bytes) -> None:
        """Send all of it before the deadline; TLS's own sendall would begin anew per record."""
        left = memoryview(content)
        while left:
            self.socket.settimeout(self.remaining())
            left = left[self.socket.send(left) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what `http.client.HTTPResponse` reads from."""
        return io.BufferedReader(_Reader(self), buffer_size=4096)


class _Reader(io.RawIOBase):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer has no len()
        room = min(len(buffer), BYTES_MAX - self._wire.received)
        if room <= 0:
            # The limit: what follows is never read, and the connection is closed.
            return 0
        self._wire.socket.settimeout(self._wire.remaining())
        count = self._wire.socket.recv_into(memoryview(buffer)[:room])
        self._wire.received += count
        return count
