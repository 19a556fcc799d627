"""The measured web server, and the load driver beside it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from socket import socket
from typing import Final

from bench import database, processes
from bench._rounds import SECONDS, WARM_UP_SECONDS
from bench.books import Books

CLIENTS: Final = 64
_LOG_BYTES_MAX: Final = 1 << 30
_LOG_TAIL_BYTES: Final = 2_000


def _log_place() -> Path:
    """
    Return where the web's log lies: in memory, where there is room.

    In production it is on no database's disk. There the system writes tens of megabytes of it back
    at once, while a COMMIT waits (docs/adr/0179).
    """
    memory = Path("/dev/shm")  # noqa: S108  (a folder of our own is made there)
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= _LOG_BYTES_MAX:
        return memory
    return database.ROOT / "var"


# A folder of this run's, which ends with it: two runs at once do not write each other's.
_FOLDER: Final = tempfile.TemporaryDirectory(prefix="kassa-bench-", dir=_log_place())
LOG: Final = Path(_FOLDER.name) / "web.log"
_START_SECONDS_MAX: Final = 30
# The limits of a key are in force, and asked as always; they are raised so far that the figure is
# the ledger's and not the limiter's.
_LIMITS: Final = {
    "API_RATE_PER_SECOND": "100000",
    "API_RATE_BURST": "200000",
    "API_IN_FLIGHT_MAX": "10000",
}


@dataclass(frozen=True, slots=True)
class Load:
    """What the driver measured; times in seconds, `driver_us` its own CPU time per request."""

    per_second: float
    p50: float
    p99: float
    p999: float
    slowest: float
    driver_us: float
    sent: int
    resent: int

    @property
    def detail(self) -> dict[str, float]:
        return {
            "p50_ms": round(1000 * self.p50, 2),
            "p99_ms": round(1000 * self.p99, 2),
            "driver_us": round(self.driver_us, 1),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Where a provider posts, what it signs with, and what it tells, of `count` cards at most."""

    path: str
    secret: str
    count: int
    type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    What the driver is to do. `rate`: open loop at so many a second; 0: closed loop.

    `by_size`: nine of ten requests are the first organisation's, instead of each one's in turn.
    `hook`: a provider's events instead of transfers. `accepted` is the status that is expected.
    """

    path: str = "/v1/transfers"
    clients: int = CLIENTS
    seconds: float = SECONDS
    rate: float = 0
    batch: int = 0
    hot: bool = False
    by_size: bool = False
    hook: Hook | None = None
    accepted: str = "201"


@contextmanager
def web(name: str, **more: str) -> Iterator[int]:
    """
    Run the web server on a database, as the Procfile runs it, on a free port; yield the port.

    `more` is what else is in its environment.
    """
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    # Each request's line is written, as in production, and is not part of the table.
    log = LOG.open("wb")
    server = subprocess.Popen(
        ["sh", "-c", f"exec env {processes.command('web')}"],
        cwd=database.ROOT,
        env=database.environment(name)
        | _LIMITS
        | {
            "PATH": processes.search_path(),
            "KASSA_BIND": f"127.0.0.1:{port}",
        }
        | more,
        stdout=log,
        start_new_session=True,
    )
    try:
        _wait(server, port)
        yield port
    finally:
        processes.end(server)
        log.close()


def _wait(server: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS_MAX
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    said = LOG.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
    msg = f"The web server did not start.\n{said}"
    raise RuntimeError(msg)


def drive(port: int, tenants: Sequence[Books], order: Order) -> Load:
    """Run one order in a process of its own, and refuse any answer but the one accepted."""
    load, statuses, refused = _drive(port, tenants, order)
    if set(statuses) != {order.accepted}:
        msg = f"Not every answer was {order.accepted}: {statuses}\n{refused}"
        raise RuntimeError(msg)
    if not load.per_second:
        raise RuntimeError("Fewer than two answers came within the round: it is too short.")
    return load


def warm_up(port: int, tenants: Sequence[Books], order: Order) -> None:
    """
    Have every process import, connect, plan and cache what the order needs.

    What is refused meanwhile says nothing: a cold pool may turn away a full load at once.
    """
    _drive(port, tenants, replace(order, seconds=WARM_UP_SECONDS))


def _drive(port: int, tenants: Sequence[Books], order: Order) -> tuple[Load, dict[str, int], str]:
    asked = asdict(order) | {
        "port": port,
        "label": f"b{time.time_ns():x}",
        "tenants": [{"token": books.token, "accounts": books.printed} for books in tenants],
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.http_load"],
        input=json.dumps(asked),
        cwd=database.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    measured = json.loads(done.stdout)
    statuses, refused = measured.pop("statuses"), measured.pop("refused")
    return Load(**measured), statuses, refused
