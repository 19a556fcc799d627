"""
A load driver in a process of its own: one thread, epoll, keep-alive connections, loopback only.

It shares two cores with what it measures, so it does little: requests are bytes made beforehand
(only their keys are new each time), of an answer it reads status and length, and latencies
go into an array. `detail.driver_us` says what it cost: CPU time per request.

Closed loop: each connection sends its next request when it has its answer. Open loop: requests are
due at a fixed rate, whoever answers how fast; a latency counts from the instant its request was
due, so a server that stalls cannot hide those that had to wait (coordinated omission).

    python -m bench.http_load < order.json
"""

import gc
import json
import math
import select
import socket
import sys
import time
from array import array
from collections import deque
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from bench._requests import Pool, key_of, make_pools
from bench._rounds import percentile

_BUFFER = 1 << 16
# Whatever is not answered so long after the end of the run never will be.
_DRAIN_SECONDS = 30.0
# A server that recycles its workers may close a connection under a request that it never read.
_RESENT_PART_MAX = 0.01


class Failure(Exception):
    """The server did not do what the benchmark is about."""


class Connection:
    """One keep-alive connection, and the request it waits for."""

    __slots__ = ("due", "file", "head", "missing", "pool", "request", "sock", "status", "unsent")

    def __init__(self, pool: int) -> None:
        self.pool = pool
        self.sock: socket.socket
        self.file = -1
        self.request = b""
        self.due = 0.0
        self.unsent: memoryview | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the last answer."""
        self.head = b""
        self.status = b""
        self.missing = 0


@dataclass(slots=True)
class Load:
    """What a run saw; latencies are in seconds, of answers within the run only."""

    statuses: dict[str, int] = field(default_factory=dict)
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    first_at: float = 0.0
    last_at: float = 0.0
    sent: int = 0
    resent: int = 0
    refused: str = ""

    @property
    def per_second(self) -> float:
        """From the first counted answer to the last: a run of few large ones ends between two."""
        span = self.last_at - self.first_at
        return (len(self.latencies) - 1) / span if span > 0 else 0.0

    def as_json(self, *, cpu_seconds: float) -> str:
        ordered = sorted(self.latencies)
        return json.dumps(
            {
                "per_second": self.per_second,
                "statuses": self.statuses,
                "refused": self.refused,
                "p50": percentile(ordered, 0.5),
                "p99": percentile(ordered, 0.99),
                "p999": percentile(ordered, 0.999),
                "slowest": ordered[-1] if ordered else 0.0,
                "sent": self.sent,
                "resent": self.resent,
                "driver_us": 1e6 * cpu_seconds / max(1, self.sent),
            }
        )


class Driver:
    """Connections over one epoll; `run_closed` or `run_open` sends, once."""

    def __init__(
        self, *, port: int, clients: int, label: str, pools: list[Pool], accepted: str = "201"
    ) -> None:
        self.port, self.label, self.pools = port, label, pools
        self.accepted = accepted.encode()
        self.load = Load()
        self.poll = select.epoll()
        self.open: dict[int, Connection] = {}
        self.next = [0] * len(pools)
        self.in_flight = 0
        # Answers after `until` are still checked, but not counted.
        self.until = self.given_up_at = math.inf
        for client in range(clients):
            self._connect(Connection(client % len(pools)))

    def run_closed(self, *, seconds: float) -> None:
        """Keep every connection busy for `seconds`, then wait for the answers that are owed."""
        started = time.perf_counter()
        self.until = started + seconds
        self.given_up_at = self.until + _DRAIN_SECONDS
        for connection in list(self.open.values()):
            self._send(connection, time.perf_counter())
        while self.in_flight:
            for connection in self._answered(timeout=1.0):
                now = time.perf_counter()
                if now < self.until:
                    self._send(connection, now)
            self._check_time()

    def run_open(self, *, seconds: float, rate: float) -> None:
        """Send at `rate` for `seconds`; a request that finds no idle connection waits its turn."""
        idle = deque(self.open.values())
        started = time.perf_counter() + 0.01
        total, at = int(rate * seconds), 0
        self.given_up_at = started + seconds + _DRAIN_SECONDS
        epoll_file = [self.poll.fileno()]
        while at < total or self.in_flight:
            now = time.perf_counter()
            while idle and at < total and (due := started + at / rate) <= now:
                self._send(idle.popleft(), due)
                at += 1
            # epoll's own timeout counts whole milliseconds, select's on its descriptor does not.
            wait = 1.0 if at == total or not idle else max(0.0, started + at / rate - now)
            select.select(epoll_file, [], [], wait)
            idle.extend(self._answered(timeout=0))
            self._check_time()

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self.open.values()):
            self._disconnect(connection)
        self.poll.close()

    def _check_time(self) -> None:
        if time.perf_counter() > self.given_up_at:
            msg = f"{self.in_flight} requests were never answered."
            raise Failure(msg)

    def _connect(self, connection: Connection) -> None:
        connection.sock = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock.setblocking(False)  # noqa: FBT003  (positional only)
        connection.file = connection.sock.fileno()
        self.open[connection.file] = connection
        self.poll.register(connection.file, select.EPOLLIN)

    def _disconnect(self, connection: Connection) -> None:
        del self.open[connection.file]
        self.poll.unregister(connection.file)
        connection.sock.close()

    def _send(self, connection: Connection, due: float) -> None:
        pool = self.pools[connection.pool]
        number = self.next[connection.pool]
        self.next[connection.pool] = number + 1
        head, tail = pool[number % len(pool)]
        key = key_of(self.label, connection.pool, number)
        connection.request = b"".join((head, key, tail))
        connection.due = due
        self.load.sent += 1
        self.in_flight += 1
        self._write(connection)

    def _write(self, connection: Connection) -> None:
        rest = connection.unsent or memoryview(connection.request)
        try:
            sent = connection.sock.send(rest)
        except BlockingIOError:
            sent = 0
        except (BrokenPipeError, ConnectionResetError):
            self._send_again(connection)
            return
        is_waiting = connection.unsent is not None
        connection.unsent = rest[sent:] if sent < len(rest) else None
        if (connection.unsent is not None) != is_waiting:
            wanted = select.EPOLLIN | (0 if is_waiting else select.EPOLLOUT)
            self.poll.modify(connection.file, wanted)

    def _send_again(self, connection: Connection) -> None:
        """Send the same request, with its key, over a new connection: nothing came of the first."""
        if connection.head or connection.missing:
            raise Failure("A connection ended in the middle of an answer.")
        self._disconnect(connection)
        connection.unsent = None
        self._connect(connection)
        self.load.resent += 1
        self._write(connection)

    def _answered(self, *, timeout: float) -> list[Connection]:
        """Return the connections whose answer is whole; each is ready for the next request."""
        done = []
        for file, happened in self.poll.poll(timeout):
            connection = self.open[file]
            if happened & select.EPOLLOUT:
                self._write(connection)
            if happened & ~select.EPOLLOUT and self._read(connection):
                done.append(connection)
        return done

    def _read(self, connection: Connection) -> bool:
        try:
            data = connection.sock.recv(_BUFFER)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        if not data:
            self._end_of_stream(connection)
            return False
        if connection.missing:
            connection.missing -= len(data)
            return self._finish(connection) if connection.missing <= 0 else False
        data = connection.head + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            connection.head = data
            return False
        head = data[:end].lower()
        connection.head = head
        connection.status = head[9:12]
        connection.missing = end + 4 + _length(head) - len(data)
        if connection.status != self.accepted and not self.load.refused:
            self.load.refused = data[:600].decode(errors="replace")
        return self._finish(connection) if connection.missing <= 0 else False

    def _end_of_stream(self, connection: Connection) -> None:
        if connection.request:
            self._send_again(connection)
        else:
            # An idle connection that the server gave up.
            self._disconnect(connection)
            self._connect(connection)

    def _finish(self, connection: Connection) -> bool:
        now = time.perf_counter()
        status = connection.status.decode()
        self.load.statuses[status] = self.load.statuses.get(status, 0) + 1
        if now <= self.until:
            self.load.latencies.append(now - connection.due)
            self.load.first_at = self.load.first_at or now
            self.load.last_at = now
        self.in_flight -= 1
        connection.request = b""
        if b"\r\nconnection: close" in connection.head:
            self._disconnect(connection)
            self._connect(connection)
        connection.reset()
        return True


def _length(head: bytes) -> int:
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        msg = f"An answer without Content-Length: {head!r}"
        raise Failure(msg)
    end = head.find(b"\r", at + 17)
    return int(head[at + 17 : end if end > 0 else len(head)])


def run(order: dict[str, Any]) -> str:
    """Run one order (`bench.driving.Order`); return what was measured as JSON."""
    driver = Driver(
        port=order["port"],
        clients=order["clients"],
        label=order["label"],
        pools=make_pools(order),
        accepted=order.get("accepted", "201"),
    )
    with closing(driver):
        cpu = time.process_time()
        if order["rate"]:
            driver.run_open(seconds=order["seconds"], rate=order["rate"])
        else:
            driver.run_closed(seconds=order["seconds"])
        cpu = time.process_time() - cpu
    if driver.load.resent > max(10, _RESENT_PART_MAX * driver.load.sent):
        msg = f"{driver.load.resent} of {driver.load.sent} requests had to be sent again."
        raise Failure(msg)
    return driver.load.as_json(cpu_seconds=cpu)


if __name__ == "__main__":
    # Nothing here is a cycle, and a collection would be counted as the server's time.
    gc.disable()
    try:
        print(run(json.load(sys.stdin)))
    except Failure as failure:
        sys.exit(f"http_load: {failure}")
