"""A Kassa of a test's own: real processes and servers, to be killed, stopped and started again."""

import base64
import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from celery import Celery
from django.conf import settings
from django.db import connection

from apps.core import work
from config.settings._celery import make_celery
from config.settings._database import make_timeouts
from dev import valkey
from tests.support import ROOT, free_port, wait_until

# How long a test waits for what takes a second or two: two processors are shared with others.
PATIENCE_SECONDS = 90

_QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")
_counter = itertools.count(1)


@dataclass
class Running:
    """One process of the house, leader of a group with its children; it writes to a log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        """Return when the process has said this."""
        wait_until(lambda: words in self.text or not self.is_alive, seconds=PATIENCE_SECONDS)
        assert words in self.text, f"{self.name} ended:\n{self.text[-4000:]}"

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """End it and its children at once, with no chance to tidy up."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)

    def terminate(self) -> None:
        """Ask it to end, as a deployment does."""
        self.process.terminate()


@dataclass
class House:
    """Where the processes of one test work: a database, a broker, and a folder for logs."""

    folder: Path
    database_url: str
    broker: dict[str, str] = field(default_factory=dict)
    started: list[Running] = field(default_factory=list)

    # --- Processes ----------------------------------------------------------------------------

    def start(self, name: str, *arguments: str, role: str = "command", **more: str) -> Running:
        log = self.folder / f"{next(_counter)}-{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=self.environment(role) | more,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        running = Running(name, process, log)
        self.started.append(running)
        return running

    def environment(self, role: str) -> dict[str, str]:
        timeouts = quote(make_timeouts(role))
        return os.environ | {
            "DJANGO_SETTINGS_MODULE": "config.settings.local",
            "KASSA_ROLE": role,
            "DATABASE_URL": f"{self.database_url}&options={timeouts}",
            "REDIS_URL": self.broker["url"],
            "CACHE_URL": self.broker["cache_url"],
            # What the test seals and hashes, its processes open and compare.
            "KASSA_PEPPERS": ",".join(settings.KASSA_PEPPERS),
            "KASSA_KEY_FILE": settings.KASSA_KEY_FILE,
            "KASSA_LOG_LEVEL": "INFO",
            "KASSA_LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
        }

    def worker(self, *queues: str, concurrency: int = 1, hours: float = 0, **more: str) -> Running:
        """Start a prefork worker; its clock may be some hours ahead, or behind."""
        return self._celery(
            "worker", "-Q", ",".join(queues), "-c", str(concurrency), *_QUIET,
            "-n", f"worker{next(_counter)}@%h", role="worker", hours=hours, **more,
        )  # fmt: skip

    def sender(self, *queues: str, concurrency: int = 8, hours: float = 0, **more: str) -> Running:
        """Start a worker with threads, as webhooks have them."""
        return self._celery(
            "worker", "-Q", ",".join(queues or ("webhooks", "webhooks_slow")), "-P", "threads",
            "-c", str(concurrency), *_QUIET, "-n", f"sender{next(_counter)}@%h",
            role="threads", hours=hours, **more,
        )  # fmt: skip

    def beat(self, *, hours: float = 0) -> Running:
        return self._celery("beat", "--pidfile=", role="beat", hours=hours)

    def _celery(self, *arguments: str, role: str, hours: float, **more: str) -> Running:
        program = ("tests/chaos/off_time.py", str(hours * 3600)) if hours else ("-m", "celery")
        return self.start(
            arguments[0] if role != "threads" else "sender",
            *program, "-q", "-A", "config", *arguments, role=role, PYTHONPATH=str(ROOT), **more,
        )  # fmt: skip

    def web(self, **more: str) -> "Web":
        port = free_port()
        running = self.start(
            "web", "-m", "config.server", role="web",
            KASSA_BIND=f"127.0.0.1:{port}", WEB_CONCURRENCY="1", **more,
        )  # fmt: skip
        web = Web(running, port)
        wait_until(web.is_ready, seconds=PATIENCE_SECONDS)
        return web

    def far_side(self) -> "FarSide":
        far = FarSide(self, free_port(), self.folder / f"notes-{next(_counter)}.jsonl")
        far.come_back()
        return far

    def kill_all(self) -> None:
        for running in self.started:
            running.kill()

    # --- Broker -------------------------------------------------------------------------------

    def start_broker(self) -> None:
        """Start the broker, at the address it had before if it ran already."""
        before = self.broker
        self.broker = valkey.start(self.folder, before)
        assert not before or self.broker["url"] == before["url"], "Its port was taken meanwhile."

    def kill_broker(self) -> None:
        pid = valkey.find_pid(self.broker)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: valkey.find_pid(self.broker) is None)

    def ask_broker(self, *command: str) -> Any:
        """Send one command to the broker, and return its answer."""
        with redis.Redis.from_url(self.broker["url"]) as client:
            return client.execute_command(*command)

    def celery(self) -> Celery:
        """Return an application that publishes to this broker, as a web process does."""
        app = Celery("tests", set_as_current=False)
        made = make_celery(broker_url=self.broker["url"], role="web")
        app.config_from_object(
            {name.removeprefix("CELERY_").lower(): value for name, value in made.items()}
        )
        return app


@dataclass
class Web:
    """The web process, and a client of its own API."""

    running: Running
    port: int

    def is_ready(self) -> bool:
        assert self.running.is_alive, self.running.text[-4000:]
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/livez")[0] == 200
        return False

    def ask(
        self, method: str, path: str, body: Any = None, *, token: str = "", key: str = ""
    ) -> tuple[int, Any]:
        """Make one request; return its status and its answer."""
        talk = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json"}
        if token:
            headers |= {"Authorization": f"Bearer {token}"}
        if key:
            headers |= {"Idempotency-Key": key}
        with contextlib.closing(talk):
            talk.request(method, path, json.dumps(body) if body else None, headers)
            answer = talk.getresponse()
            text = answer.read().decode()
        return answer.status, json.loads(text) if text.startswith("{") else text


@dataclass
class Received:
    """One request that reached the far side."""

    path: str
    id: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FarSide:
    """The receiver's process, and what it noted, whether or not it lives."""

    house: House
    port: int
    notes: Path
    running: Running | None = None

    def come_back(self) -> None:
        self.running = self.house.start(
            "far-side", "tests/chaos/far_side.py", str(self.port), str(self.notes)
        )
        wait_until(self.is_listening, seconds=PATIENCE_SECONDS)

    def is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def die(self) -> None:
        assert self.running is not None
        self.running.kill()

    def url(self, path: str = "ok") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def received(self, path: str = "ok") -> list[Received]:
        """Return what came for a path, in the order it came."""
        if not self.notes.exists():
            return []
        # The last line may be half written.
        lines = self.notes.read_text().split("\n")[:-1]
        found = [json.loads(line) for line in lines]
        return [
            Received(one["path"], one["id"], one["headers"], base64.b64decode(one["body"]))
            for one in found
            if one["path"] == f"/{path}"
        ]

    def ids(self, path: str = "ok") -> list[str]:
        return [one.id for one in self.received(path)]


def address_of_tests() -> str:
    """Return the address of the database that this test runs on."""
    here = connection.settings_dict
    user = ":".join(quote(here[name], safe="") for name in ("USER", "PASSWORD") if here[name])
    host = here["HOST"] or here["OPTIONS"].get("host", "")
    port = f"&port={here['PORT']}" if here["PORT"] else ""
    return f"postgres://{user}@/{here['NAME']}?host={quote(host, safe='')}{port}"


def wait_sweeping(condition: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait, with the sweep that beat would start each second; only for tests without a beat."""
    swept_at = float("-inf")

    def is_so() -> bool:
        nonlocal swept_at
        if time.monotonic() - swept_at > 1:
            work.sweep()
            swept_at = time.monotonic()
        return condition()

    wait_until(is_so, seconds=seconds)
