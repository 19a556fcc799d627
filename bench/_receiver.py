"""
A receiver of webhooks in a process of its own: one thread, epoll, keep-alive, loopback only.

The path decides what it does. `/hang…` takes the request and never answers; `/late/15` answers 200
after so many seconds; `/endless…` answers with a body that has no end; any other is answered 200 at
once. It notes how many requests came to each path, and when each `webhook-id` came first.

    python -m bench._receiver

Its port is the first line it prints. Each line it reads is one of these, and is answered by one:
`seen`, `arrivals`, `forget` (what was noted), `release` (hang up on all that hang).
"""

import contextlib
import gc
import json
import math
import os
import select
import socket
import time
from collections import Counter
from typing import Final

_COMMANDS: Final = 0
_BUFFER: Final = 1 << 16
_BACKLOG: Final = 512
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_ENDLESS: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
_FILLER: Final = b"x" * _BUFFER
_LENGTH: Final = b"\r\ncontent-length: "
_ID: Final = b"\r\nwebhook-id: "


class Receiver:
    """All connections over one epoll, and what came over them."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self.port: int = self.listener.getsockname()[1]
        self.poll = select.epoll()
        self.poll.register(self.listener.fileno(), select.EPOLLIN)
        self.poll.register(_COMMANDS, select.EPOLLIN)
        self.open: dict[int, socket.socket] = {}
        self.unread: dict[int, bytes] = {}
        # Which wait for an answer, and when each is to have it.
        self.hanging: dict[int, float] = {}
        self.requests: Counter[str] = Counter()
        self.arrivals: dict[str, dict[str, float]] = {}
        self.endless_bytes = 0

    def serve(self) -> None:
        """Serve until standard input ends."""
        while True:
            found = self.poll.poll(self._seconds_to_next())
            self._answer_late()
            for file, happened in found:
                if file == _COMMANDS:
                    if not self._obey():
                        return
                elif file == self.listener.fileno():
                    self._accept()
                elif file not in self.open:
                    # Closed by what came before it in the same look.
                    continue
                elif happened & select.EPOLLOUT:
                    self._pour(file)
                else:
                    self._read(file)

    def _seconds_to_next(self) -> float | None:
        """Return how long until an answer is due, or None."""
        due = min(self.hanging.values(), default=math.inf)
        return None if due == math.inf else max(0.0, due - time.monotonic())

    def _answer_late(self) -> None:
        now = time.monotonic()
        for file in [file for file, due in self.hanging.items() if due <= now]:
            del self.hanging[file]
            # Whoever gave up meanwhile is seen by the read that finds it.
            with contextlib.suppress(OSError):
                self.open[file].send(_OK)

    def _obey(self) -> bool:
        asked = os.read(_COMMANDS, _BUFFER).decode().strip()
        if not asked:
            return False
        answers = {
            "seen": self._seen,
            "arrivals": lambda: self.arrivals,
            "forget": self._forget,
            "release": self._release,
        }
        print(json.dumps(answers[asked]()), flush=True)
        return True

    def _seen(self) -> dict[str, object]:
        return {
            "requests": self.requests,
            "hanging": len(self.hanging),
            "endless_bytes": self.endless_bytes,
        }

    def _forget(self) -> None:
        self.requests.clear()
        self.arrivals.clear()

    def _release(self) -> None:
        for file in list(self.hanging):
            self._close(file)

    def _accept(self) -> None:
        connected, _ = self.listener.accept()
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setblocking(False)  # noqa: FBT003  (positional only)
        file = connected.fileno()
        self.open[file], self.unread[file] = connected, b""
        self.poll.register(file, select.EPOLLIN)

    def _close(self, file: int) -> None:
        self.poll.unregister(file)
        self.open.pop(file).close()
        del self.unread[file]
        self.hanging.pop(file, None)

    def _read(self, file: int) -> None:
        try:
            data = self.open[file].recv(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(file)
            return
        data = self.unread[file] + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self.unread[file] = data
            return
        head = data[:end]
        lower = head.lower()
        if len(data) < end + 4 + int(_value(head, lower, _LENGTH)):
            self.unread[file] = data
            return
        self.unread[file] = b""
        self._answer(file, head.split(b" ", 2)[1].decode(), _value(head, lower, _ID).decode())

    def _answer(self, file: int, path: str, message_id: str) -> None:
        self.requests[path] += 1
        self.arrivals.setdefault(path, {}).setdefault(message_id, time.time())
        if path.startswith("/hang"):
            self.hanging[file] = math.inf
        elif path.startswith("/late/"):
            self.hanging[file] = time.monotonic() + float(path.removeprefix("/late/"))
        elif path.startswith("/endless"):
            self.open[file].send(_ENDLESS)
            self.poll.modify(file, select.EPOLLIN | select.EPOLLOUT)
        else:
            self.open[file].send(_OK)

    def _pour(self, file: int) -> None:
        """Send more of an answer without end, for as long as the other side is there."""
        try:
            self.endless_bytes += self.open[file].send(_FILLER)
        except BlockingIOError:
            pass
        except OSError:
            self._close(file)


def _value(head: bytes, lower: bytes, name: bytes) -> bytes:
    """Return a header's value; a request without it is none that a webhook's sender makes."""
    begin = lower.index(name) + len(name)
    end = head.find(b"\r", begin)
    return head[begin : end if end > 0 else len(head)]


if __name__ == "__main__":
    # Nothing here is a cycle, and a collection would be counted as the sender's time.
    gc.disable()
    receiver = Receiver()
    print(receiver.port, flush=True)
    receiver.serve()
