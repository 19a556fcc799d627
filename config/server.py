"""
The HTTP server: granian's RSGI workers, with our limits (docs/adr/0005-granian.md).

It is started before Django has any settings, so the environment is read here too.
"""

import logging
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import c_bool
from functools import partial
from typing import Any, Final, override

from granian._internal import load_target
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.server.mp import MPServer

from config.logging import make_logging

# What a process may be given to finish its requests before it is killed.
_GRACEFUL_SECONDS = 30
# A process that leaks is replaced before the machine swaps.
_RSS_MIB_MAX = 1024
_HEADERS_BYTES_MAX = 32 * 1024
# Also how long a connection may be idle between two requests.
_HEADERS_MS_MAX = 10_000
# Of a process. One that says nothing costs little, and whoever holds all of them is all there is.
_CONNECTIONS_MAX: Final = 4_096
# One that has lived for so long, of a release that can start, is not killed by the release.
STEADY_SECONDS: Final = 10.0
# So many may die before any is steady; then it is the release.
_DEATHS_MAX: Final = 3
# Before one that died young is replaced: one that dies at each start takes no core from others.
_PAUSE_SECONDS: Final = 1.0

log = logging.getLogger("kassa.server")


class Server(MPServer):
    """
    granian's server, which goes on when a process dies again and again (docs/adr/0142).

    Its own ends once one has died twice within 5.5 s, and ends those that answer with it. Ours ends
    only if it has never come so far that a process was steady. None is before one has loaded the
    release, however long it takes until it finds that it cannot.
    """

    _is_steady = False
    _deaths = 0
    # One for each process, or none.
    cores: tuple[int, ...] = ()

    @override
    def serve(self, *_: object, **__: object) -> None:
        # Without a lock, which a process that is killed would keep.
        self._has_loaded = multiprocessing.RawValue(c_bool)
        super().serve(target_loader=partial(_load, self._has_loaded))

    @override
    def _spawn_worker(self, idx: int, *args: Any, **more: Any) -> Any:
        if self.cores:
            # What this thread starts next begins where it is. By itself it only waits.
            os.sched_setaffinity(0, {self.cores[idx]})
        give_way()
        return super()._spawn_worker(idx, *args, **more)

    @override
    def _respawn_workers(
        self,
        workers: Sequence[int],
        spawn_target: Callable[..., None],
        target_loader: Callable[..., Any],
        delay: float = 0,
    ) -> None:
        # Those that are replaced while they live, as one that is too large, have a delay.
        if not delay and not self._goes_on(workers):
            return
        super()._respawn_workers(workers, spawn_target, target_loader, delay=delay)
        # When each was started last: what granian compares with the next death.
        self.respawned_wrks.clear()

    def _goes_on(self, died: Sequence[int]) -> bool:
        now = time.monotonic()
        if self._has_loaded.value:
            self._is_steady |= any(now - worker.birth >= STEADY_SECONDS for worker in self.wrks)
        self._deaths += len(died)
        if not self._is_steady and self._deaths > _DEATHS_MAX:
            log.error("server_cannot_start")
            # As granian ends by itself: with those that died on the list its status is 1.
            self.interrupt_children.extend(died)
            self.interrupt_signal = True
            self.main_loop_interrupt.set()
        elif any(now - self.wrks[place].birth < STEADY_SECONDS for place in died):
            self.main_loop_interrupt.wait(_PAUSE_SECONDS)
        return not self.interrupt_signal


def give_way() -> None:
    """
    Have this thread, and what it starts, take no core from who is at work there when it wakes.

    A process wakes for each request, on several threads, and takes the core from Postgres or from a
    thread of its own that has the interpreter's lock, for which it then waits (docs/adr/0179). Its
    share of the cores stays what it was. A policy that was chosen for it stays too.
    """
    if sys.platform == "linux":
        # Where there is no such policy, or it is not allowed, the server is as quick as without.
        with suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _load(has_loaded: c_bool, target: str) -> Callable[..., None]:
    """Load the application, in one of the server's processes, and tell the server that it can."""
    application = load_target(target)
    has_loaded.value = True
    return application


def make_server() -> Server:
    """Return the server as the environment wants it: KASSA_BIND and WEB_CONCURRENCY."""
    host, _, port = os.environ.get("KASSA_BIND", "127.0.0.1:8000").rpartition(":")
    processes = int(os.environ.get("WEB_CONCURRENCY", str(os.cpu_count() or 1)))
    server = Server(
        "config.rsgi:application",
        address=host.strip("[]"),
        port=int(port),
        interface=Interfaces.RSGI,
        # Named, so that another one which happens to be installed changes nothing: uvloop costs the
        # same (docs/adr/0091).
        loop=Loops.asyncio,
        # A second protocol is a second reading of a request, and proxies speak the first to us.
        http=HTTPModes.http1,
        websockets=False,
        workers=processes,
        backlog=512,
        backpressure=_make_room_for_connections(),
        http1_settings=HTTP1Settings(
            header_read_timeout=_HEADERS_MS_MAX, max_buffer_size=_HEADERS_BYTES_MAX
        ),
        workers_kill_timeout=_GRACEFUL_SECONDS,
        workers_max_rss=_RSS_MIB_MAX,
        respawn_failed_workers=True,
        # The request's own line is the access log.
        log_access=False,
        # Its own lines are written as all others are.
        log_dictconfig=make_logging(
            level=os.environ.get("KASSA_LOG_LEVEL", "INFO"),
            form=os.environ.get("KASSA_LOG_FORMAT", "json"),
        ),
    )
    server.cores = _cores_for(processes)
    # For what in a process need not stay where it is: settings have it as WEB_CORES.
    os.environ["KASSA_CORES"] = ",".join(map(str, server.cores))
    return server


def _cores_for(processes: int) -> tuple[int, ...]:
    """
    Return the core of each process, if there is a process for each core that we may use.

    A process that stays where it is finds in the caches what it left there, and no two are ever on
    one core while another one is idle (docs/adr/0155). With fewer of them than cores the system
    does better than we would, and beside another server that did the same both would be on some.
    """
    if not hasattr(os, "sched_getaffinity"):
        return ()
    cores = tuple(sorted(os.sched_getaffinity(0)))
    return cores if len(cores) == processes else ()


def _make_room_for_connections() -> int:
    """Let each process open as many files as it needs; return how many connections that allows."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The other half is for bodies, answers and what we connect to.
    wanted = 2 * _CONNECTIONS_MAX
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    if files != resource.RLIM_INFINITY and files < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return wanted // 2


def _is_news(record: logging.LogRecord) -> bool:
    # What a replaced process may lose is in the ADR: not worth a warning at each start.
    return not str(record.msg).startswith("Workers respawn is configured")


if __name__ == "__main__":
    # Connection pools and tracers do not survive a fork.
    multiprocessing.set_start_method("spawn")
    server = make_server()
    logging.getLogger("_granian").addFilter(_is_news)
    server.serve()
