"""A small CONNECT proxy on the loopback: real sockets, and whatever answer a test asks for."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field

from apps.webhooks.rules.targets import Proxy

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class ConnectProxy:
    """
    Connects to whatever address it is asked for and hands bytes to and fro; or says `refusal`.

    A refusal is raw bytes, or a function of the connected socket and of the end of the test.
    """

    refusal: object = None
    asked: list = field(default_factory=list)

    def __enter__(self):
        self.closing = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = Proxy(*self.socket.getsockname()[:2])
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        # Wakes the accept that is waiting.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _accept(self):
        while not self.closing.is_set():
            try:
                connected, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connected,), daemon=True).start()

    def _serve(self, near):
        with contextlib.suppress(OSError), near:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += near.recv(1)
            line, *headers = head.decode("ascii").strip().split("\r\n")
            self.asked.append((line, headers))
            if callable(self.refusal):
                self.refusal(near, self.closing)
            elif self.refusal is not None:
                near.sendall(self.refusal)
            else:
                self._connect(near, line.split()[1])

    def _connect(self, near, there):
        host, _, port = there.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as far:
            near.sendall(ESTABLISHED)
            back = threading.Thread(target=_hand_on, args=(far, near), daemon=True)
            back.start()
            _hand_on(near, far)
            back.join()


def _hand_on(source, target):
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
