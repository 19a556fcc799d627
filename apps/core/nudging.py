"""
How a process tells workers to look now: hints that may be lost, since the sweeper finds each row.

Whoever adds a row calls `work.nudge`, which sends one here after COMMIT.
"""

import threading
import time
from typing import TYPE_CHECKING, Final

import structlog
from celery import current_app

from apps.core import counters, failpoints
from apps.core.failpoints import Failpoint

if TYPE_CHECKING:
    from apps.core.work import Kind

log = structlog.get_logger(__name__)

# How old a hint is tells the clock of whoever takes it. Were it dropped after seconds, a worker
# whose clock is some minutes ahead, or a beat that is behind, would stop all work and say nothing.
_HINT_SECONDS_MAX: Final = 900
_NUDGE_SECONDS_MIN: Final = 0.05
_BREAKER_SECONDS: Final = 5.0
_PUBLISH_ERRORS: Final = counters.Counter(
    "kassa_publish_errors_total", "Messages that the broker did not take.", ("queue",)
)


class Nudger:
    """At most one message per kind and 50 ms from this process; a dead broker is left alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent_at: dict[str, float] = {}
        self._broken_until = 0.0

    def send(self, kind: "Kind") -> None:
        """Send a hint unless one has just gone, or the broker did not answer; never raises."""
        failpoints.reach(Failpoint.WORK_COMMITTED)
        with self._lock:
            now = time.monotonic()
            recent = now - self._sent_at.get(kind.name, 0.0) < _NUDGE_SECONDS_MIN
            if recent or now < self._broken_until:
                return
            self._sent_at[kind.name] = now
        try:
            send_hint(kind)
        # The boundary: a nudge is a hint. Whatever the broker does, the sweeper finds the row.
        except Exception as fault:  # noqa: BLE001
            with self._lock:
                self._broken_until = time.monotonic() + _BREAKER_SECONDS
            log.warning("nudge_failed", kind=kind.name, fault=type(fault).__name__)


def send_hint(kind: "Kind") -> None:
    """Send the kind's task now; raises what the broker does."""
    try:
        # The sweeper repeats itself each second: hints that nobody took must not pile up.
        current_app.send_task(
            kind.task, queue=kind.queue, ignore_result=True, expires=_HINT_SECONDS_MAX
        )
    except Exception:
        _PUBLISH_ERRORS.add(queue=kind.queue)
        raise


_nudger = Nudger()


def send(kind: "Kind") -> None:
    """Send a hint through this process's nudger."""
    _nudger.send(kind)
