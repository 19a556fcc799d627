"""A receiver of webhooks on the loopback: real sockets, and whatever behaviour a test asks for."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


@dataclass
class Received:
    request_line: str
    headers: dict
    body: bytes
    at: float = field(default_factory=time.monotonic)


@dataclass
class Receiver:
    """
    Answers each request with the next of `answers` (the last one again and again).

    An answer is raw bytes, or a function of the connected socket. `got` is set at each request.
    """

    answers: list = field(default_factory=lambda: [ok()])
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    port: int = 0
    requests: list = field(default_factory=list)
    connections: int = 0

    def __enter__(self):
        self.got = threading.Condition()
        self.closing = threading.Event()
        self.socket = socket.create_server((self.host, self.port))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        # Wakes the accept that is waiting.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}/hook"

    def wait_for(self, count, timeout=30):
        with self.got:
            assert self.got.wait_for(lambda: len(self.requests) >= count, timeout), (
                f"{len(self.requests)} of {count} requests came"
            )
        return self.requests

    def ids(self):
        return [each.headers["webhook-id"] for each in self.requests]

    def _accept(self):
        while not self.closing.is_set():
            try:
                connected, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connected,), daemon=True).start()

    def _serve(self, connected):
        # Whatever the other side does to the connection ends this thread and nothing else.
        with contextlib.suppress(OSError, ValueError), connected:
            if self.tls is not None:
                connected = self.tls.wrap_socket(connected, server_side=True)
            self.connections += 1
            with contextlib.closing(connected), connected.makefile("rb") as reader:
                while (received := _read(reader)) is not None:
                    with self.got:
                        self.requests.append(received)
                        place = min(len(self.requests), len(self.answers)) - 1
                        self.got.notify_all()
                    answer = self.answers[place]
                    if not callable(answer):
                        connected.sendall(answer)
                    elif answer(connected, self.closing) is False:
                        return


def _read(reader):
    line = reader.readline().decode("ascii").strip()
    if not line:
        return None
    headers = {}
    while header := reader.readline().decode("ascii").strip():
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    return Received(line, headers, reader.read(int(headers["content-length"])))


def ok(body=b"thanks", headers=""):
    return answer("200 OK", body, headers)


def answer(status, body=b"", headers=""):
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode("ascii") + body
    )


def hang(connected, closing):
    """Take the request and never answer, until the test is over."""
    closing.wait(60)
    return False


def hang_up(connected, closing):
    return False


def endless(connected, closing):
    """Answer with a body that never ends."""
    connected.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not closing.is_set():
        connected.sendall(b"x" * 65536)
    return False


def endless_headers(connected, closing):
    connected.sendall(b"HTTP/1.1 200 OK\r\n")
    while not closing.is_set():
        connected.sendall(b"X-Filler: " + b"x" * 1000 + b"\r\n")
    return False


def drip_head(connected, closing):
    """Send the head of an answer a byte at a time, and never its end."""
    connected.sendall(b"HTTP/1.1 200 OK\r\nX-Filler: ")
    while not closing.wait(0.02):
        connected.sendall(b"x")
    return False


def drip(connected, closing):
    """Send a byte at a time, so that no single read ever waits long."""
    connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not closing.wait(0.02):
        connected.sendall(b"x")
    return False
