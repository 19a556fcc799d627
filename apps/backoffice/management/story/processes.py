"""The processes a story needs: web, workers, beat and a bank, started and ended by it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

READY_SECONDS_MAX: Final = 60
_QUEUES: Final = "money,settlement,events,risk,default"


class ProcessFailed(Exception):
    """A process of the story did not come up, or ended before it should."""


@dataclass(frozen=True, slots=True)
class Bank:
    """The sandbox bank the story talks to: where it answers, and the file it remembers by."""

    url: str
    database: Path


@contextmanager
def bank() -> Iterator[Bank]:
    """Yield the bank that `make run` has up; where none answers, run one of the story's own."""
    database = Path(settings.BASE_DIR) / "var" / "sandbox.sqlite3"
    if settings.SANDBOX_URL and _answers(f"{settings.SANDBOX_URL}/health"):
        yield Bank(settings.SANDBOX_URL, database)
        return
    folder = Path(tempfile.mkdtemp(prefix="kassa-bank-"))
    found = Bank(f"http://127.0.0.1:{_free_port()}", folder / "bank.sqlite3")
    command = [sys.executable, "-m", "sandbox", "--database", str(found.database), "serve"]
    command += ["--port", str(urlsplit(found.url).port)]
    with _process("bank", command, {}, folder):
        _wait_for("the sandbox bank", lambda: _answers(f"{found.url}/health"))
        yield found


@contextmanager
def kassa(bank: Bank) -> Iterator[str]:
    """Run web, workers and beat on a free port, on this bank; yield the URL."""
    port = _free_port()
    folder = Path(tempfile.mkdtemp(prefix="kassa-journey-"))
    worker = [sys.executable, "-m", "celery", "-q", "-A", "config", "worker",
              "--without-gossip", "--without-mingle"]  # fmt: skip
    commands: Mapping[str, tuple[list[str], dict[str, str]]] = {
        "web": (
            [sys.executable, "-m", "config.server"],
            {"KASSA_ROLE": "web", "KASSA_BIND": f"127.0.0.1:{port}", "WEB_CONCURRENCY": "1"},
        ),
        "worker": ([*worker, "-Q", _QUEUES, "-c", "2"], {"KASSA_ROLE": "worker"}),
        # A receiver that hangs takes the threads of the slow ones alone.
        **{
            queue: (
                [*worker, "-Q", queue, "-P", "threads", "-c", "8", "-n", f"{queue}@%h"],
                {"KASSA_ROLE": "threads"},
            )
            for queue in ("webhooks", "webhooks_slow")
        },
        "beat": (
            [sys.executable, "-m", "celery", "-q", "-A", "config", "beat", "--pidfile="],
            {"KASSA_ROLE": "beat"},
        ),
    }  # fmt: skip
    with ExitStack() as running:
        for name, (command, environment) in commands.items():
            ours = environment | {"SANDBOX_URL": bank.url}
            running.enter_context(_process(name, command, ours, folder))
        url = f"http://127.0.0.1:{port}"
        _wait_for("the web server", lambda: _answers(f"{url}/readyz"))
        yield url


@contextmanager
def _process(
    name: str, command: list[str], environment: Mapping[str, str], folder: Path
) -> Iterator[None]:
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (our own programs)
            command,
            cwd=settings.BASE_DIR,
            env={**os.environ, "KASSA_LOG_LEVEL": "WARNING", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            ended = process.poll()
            if ended is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    if ended is not None:
        msg = f"{name} ended by itself ({ended}); its log is {log}"
        raise ProcessFailed(msg)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  (http on loopback)
            return bool(answer.status == 200)  # noqa: PLR2004  (OK)
    except (urllib.error.URLError, OSError):
        return False


def _wait_for(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while not holds():
        if time.monotonic() > deadline:
            msg = f"{what} did not answer within {READY_SECONDS_MAX} s"
            raise ProcessFailed(msg)
        time.sleep(0.1)
