"""A wire to Postgres that breaks at COMMIT, before it arrives or before its answer does."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from django.db import connection

# What ends a transaction. A plain transfer is one by itself, and is told by its name as it is
# prepared, once on a connection.
COMMITS = (b"COMMIT", b"kassa_post_transfer")


@dataclass
class Wire:
    """What goes over it is passed on, until the next COMMIT of those to be cut."""

    cuts: list[Literal["before", "after"]] = field(default_factory=list)
    commits: int = 0
    unheard: set[socket.socket] = field(default_factory=set)

    def serve(self, listener: socket.socket, upstream: tuple[str, int]) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = _connect(*upstream)
            for relay in (self._ask, self._answer):
                threading.Thread(target=relay, args=(client, server), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if any(text in data for text in COMMITS):
                    self.commits += 1
                    if self.cuts:
                        self._cut(client, server, data)
                        return
                server.sendall(data)
        _close(client, server)

    def _cut(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        if self.cuts.pop(0) == "after":
            # The client hears nothing more, as when a cable is pulled, and learns of it once all is
            # done: a statement that is a whole transaction has no key yet for which it would wait.
            self.unheard.add(client)
            server.sendall(data)
            # The server closes once it has committed and is asked to end.
            server.sendall(b"X\x00\x00\x00\x04")
            while server.recv(65536):
                pass
        _close(client, server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if client not in self.unheard:
                    client.sendall(data)
        _close(client)


@contextlib.contextmanager
def wired() -> Iterator[Wire]:
    """Lay the wire between this thread's connection and Postgres for the block."""
    given = connection.settings_dict
    host, port = given["HOST"], given["PORT"]
    connection.ensure_connection()
    upstream = (connection.connection.info.host, connection.connection.info.port)
    wire = Wire()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=wire.serve, args=(listener, upstream), daemon=True).start()
        connection.close()
        given["HOST"], given["PORT"] = "127.0.0.1", listener.getsockname()[1]
        try:
            yield wire
        finally:
            connection.close()
            given["HOST"], given["PORT"] = host, port


def _connect(host: str, port: int) -> socket.socket:
    if host.startswith("/"):
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(Path(host) / f".s.PGSQL.{port}"))
        return server
    return socket.create_connection((host, port))


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
