"""
A worker's supervisor: start it, and start it anew when it has ended or its queue is silent.

    python -m config.supervisor celery -A config worker -Q money -c 4

Workers that stop taking tasks after the broker was away are a known fault: the process lives, and
nothing that only looks at processes sees it. So each of its queues is sent a heartbeat, and what
nobody has run for a minute is a reason (ADR 0101). There are two that are none: what could not be
sent, and a worker that is at work on something else.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.utils.log import configure_logging

from apps.core import clock, heartbeats
from config.celery import app

log = structlog.stdlib.get_logger("kassa.supervisor")

_START_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 30.0
_TICK_SECONDS: Final = 0.25
_BACKOFF_SECONDS_MAX: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How often a heartbeat is sent, what silence is, how long a start and an end may take."""

    beat_seconds: float = heartbeats.BEAT_SECONDS
    silent_seconds: float = heartbeats.SILENT_SECONDS
    start_seconds: float = _START_SECONDS
    grace_seconds: float = _GRACE_SECONDS


class Marks:
    """
    The files a worker has while it runs tasks, one each (config/celery.py).

    One that comes or goes is a task that began or ended. One that stays is a task at work, until
    the time is over that any task may take.
    """

    def __init__(self, folder: Path, *, start_seconds: float) -> None:
        # Until its first task a worker may be starting.
        self.seen_at = time.monotonic() + start_seconds
        self._folder = folder
        self._changed = folder.stat().st_mtime_ns
        self._since: dict[tuple[str, int], float] = {}

    def look(self, *, now: float) -> None:
        """Look; `seen_at` is when the worker was last seen at work."""
        # A file, or the folder, may go while it is looked at.
        with suppress(FileNotFoundError):
            changed = self._folder.stat().st_mtime_ns
            if changed != self._changed:
                self.seen_at, self._changed = now, changed
            found = [(each.name, each.stat().st_mtime_ns) for each in self._folder.iterdir()]
            self._since = {each: self._since.get(each, now) for each in found}
            # An old one may be of a task that was killed.
            if any(now - at < app.conf.task_time_limit for at in self._since.values()):
                self.seen_at = now


class Supervisor:
    """Keeps one worker running until it is told to end."""

    def __init__(
        self, command: Sequence[str], *, limits: Limits, environment: Mapping[str, str]
    ) -> None:
        self.command = list(command)
        self.queues = _queues(self.command)
        self.limits = limits
        self.environment = dict(environment)
        self._is_ending = False
        self._looks_at = 0.0

    def end(self, *_: object) -> None:
        """End the worker, and then this; what a signal calls."""
        self._is_ending = True

    def run(self) -> None:
        """Return once the worker has ended because it was to."""
        backoff = 1.0
        while not self._is_ending:
            begun = time.monotonic()
            self._run_worker()
            if time.monotonic() - begun > _BACKOFF_SECONDS_MAX:
                backoff = 1.0
            self._rest(0 if self._is_ending else backoff)
            backoff = min(2 * backoff, _BACKOFF_SECONDS_MAX)

    def _run_worker(self) -> None:
        with tempfile.TemporaryDirectory(prefix="kassa-worker-") as folder:
            # In this process's group: whoever ends the group by force ends the worker too.
            worker = subprocess.Popen(  # noqa: S603  (the command is the operator's)
                self.command, env=self.environment | {"KASSA_WORKER_MARKS": folder}
            )
            log.info("worker_started", pid=worker.pid, queues=self.queues)
            marks = Marks(Path(folder), start_seconds=self.limits.start_seconds)
            self._watch(worker, marks)

    def _watch(self, worker: "subprocess.Popen[bytes]", marks: Marks) -> None:
        """Return when the worker has ended, by itself or by us."""
        while worker.poll() is None:
            if self._is_ending:
                worker.terminate()
                # As long as its tasks take: whoever ends us decides when it is too long.
                worker.wait()
                return
            marks.look(now=time.monotonic())
            silent = self._look()
            if silent and time.monotonic() - marks.seen_at >= self.limits.silent_seconds:
                log.error("worker_silent", pid=worker.pid, queues=silent)
                self._end_by_force(worker)
                return
            time.sleep(_TICK_SECONDS)
        log.error("worker_ended", pid=worker.pid, status=worker.returncode)

    def _end_by_force(self, worker: "subprocess.Popen[bytes]") -> None:
        worker.terminate()
        try:
            worker.wait(timeout=self.limits.grace_seconds)
        except subprocess.TimeoutExpired:
            # Children of a pool end with their parent: the kernel tells them (PR_SET_PDEATHSIG).
            worker.kill()
            worker.wait()

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._is_ending and time.monotonic() < until:
            time.sleep(_TICK_SECONDS)

    def _look(self) -> list[str]:
        """Send what is due, and return the queues that are silent; none between two heartbeats."""
        if time.monotonic() < self._looks_at:
            return []
        self._looks_at = time.monotonic() + self.limits.beat_seconds
        try:
            at = clock.database_now()
            self._send()
            heartbeats.record_sent(queues=self.queues, at=at, gap_seconds=self._gap_seconds())
            return heartbeats.list_silent(queues=self.queues, seconds=self.limits.silent_seconds)
        except (DatabaseError, InterfaceError) as fault:
            log.warning("heartbeat_not_recorded", fault=type(fault).__name__)
        # The boundary: whatever the broker does, this worker is not what is at fault.
        except Exception as fault:  # noqa: BLE001
            log.warning("heartbeat_not_sent", fault=type(fault).__name__)
        finally:
            # There are as many supervisors as workers, and four looks a minute.
            connection.close()
        return []

    def _gap_seconds(self) -> float:
        return max(2 * self.limits.beat_seconds, self.limits.silent_seconds / 2)

    def _send(self) -> None:
        # A connection of its own each time: one that broke while it was kept would hide that the
        # broker is back.
        with app.connection_for_write() as broker, app.amqp.Producer(broker) as producer:
            for queue in self.queues:
                app.send_task(
                    heartbeats.TASK,
                    kwargs={"queue": queue},
                    queue=queue,
                    producer=producer,
                    ignore_result=True,
                    # Nobody need run more of them than say that it is not silent.
                    expires=self.limits.silent_seconds,
                )


def _queues(command: Sequence[str]) -> list[str]:
    for option, value in pairwise(command):
        if option in {"-Q", "--queues"}:
            return value.split(",")
    msg = "The worker's command names its queues by -Q."
    raise SystemExit(msg)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m config.supervisor", description=__doc__)
    for name, usual in vars(Limits()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=usual)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="how the worker is started")
    chosen = vars(parser.parse_args(arguments))
    command = chosen.pop("command")
    environment = dict(os.environ)
    # Its own settings, not the worker's: no pool, and no waiting for a broker that is away.
    os.environ["KASSA_ROLE"] = "supervisor"
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
    # Its two statements need no apps, which take their memory: Django believes they are loading.
    warnings.filterwarnings("ignore", message="Accessing the database during app initialization")
    supervisor = Supervisor(command, limits=Limits(**chosen), environment=environment)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.end)
    supervisor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
