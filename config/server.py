"""
The HTTP server: granian's WSGI workers, with our limits (docs/adr/0005-granian.md).

It is started before Django has any settings, so the environment is read here too.
"""

import logging
import multiprocessing
import os

from granian.constants import HTTPModes, Interfaces
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


def make_server() -> MPServer:
    """Return the server as the environment wants it: KASSA_BIND, WEB_CONCURRENCY, WEB_THREADS."""
    host, _, port = os.environ.get("KASSA_BIND", "127.0.0.1:8000").rpartition(":")
    return MPServer(
        "config.wsgi:application",
        address=host.strip("[]"),
        port=int(port),
        interface=Interfaces.WSGI,
        # A second protocol is a second reading of a request, and proxies speak the first to us.
        http=HTTPModes.http1,
        websockets=False,
        workers=int(os.environ.get("WEB_CONCURRENCY", str(os.cpu_count() or 1))),
        # A request waits for Postgres, and group commit needs callers at once; no more than the
        # pool has connections and waiters (40), or a cold start turns some away.
        blocking_threads=int(os.environ.get("WEB_THREADS", "32")),
        blocking_threads_idle_timeout=300,
        backlog=512,
        backpressure=512,
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


def _is_news(record: logging.LogRecord) -> bool:
    # Threads outnumber cores because they wait for Postgres and for each other, and what a replaced
    # process may lose is in the ADR: neither is worth a warning at each start.
    return not str(record.msg).startswith(
        ("Configuration allows spawning up to", "Workers respawn is configured")
    )


if __name__ == "__main__":
    # Connection pools and tracers do not survive a fork.
    multiprocessing.set_start_method("spawn")
    server = make_server()
    logging.getLogger("_granian").addFilter(_is_news)
    server.serve()
