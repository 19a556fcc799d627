"""
How a process tells workers to look now: hints that may be lost, since the sweeper finds each row.

Whoever adds a row calls `work.nudge`, which sends one here after COMMIT.
"""

import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

import structlog
from celery import current_app
from django.utils import timezone
from kombu.serialization import dumps

from apps.core import counters, failpoints
from apps.core.failpoints import Failpoint

if TYPE_CHECKING:
    from apps.core.work import Kind

log = structlog.get_logger(__name__)

# How old a hint is tells the clock of whoever takes it. Were it dropped after minutes, a worker
# whose clock is an hour ahead, or a beat that is behind, would stop all work and say nothing.
_HINT_SECONDS_MAX: Final = 86_400
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
    """
    Send the kind's task now; raises what the broker does.

    It is the message that Celery's `send_task` makes, without what that finds out each time anew.
    """
    try:
        _publish(kind)
    except Exception:
        _PUBLISH_ERRORS.add(queue=kind.queue)
        raise


def _publish(kind: "Kind") -> None:
    prepared = _prepare(kind.task)
    task_id = str(uuid4())
    # The sweeper repeats itself each second: hints that nobody took must not pile up.
    expires_at = timezone.now() + timedelta(seconds=_HINT_SECONDS_MAX)
    changing = {"id": task_id, "root_id": task_id, "expires": expires_at.isoformat()}
    with current_app.producer_or_acquire() as producer:
        # Whoever reads the queue declares it; by the unnamed exchange a message goes there at once.
        producer.publish(
            prepared.body,
            content_type=prepared.content_type,
            content_encoding=prepared.content_encoding,
            headers={**prepared.headers, **changing},
            exchange="",
            routing_key=kind.queue,
            expiration=_HINT_SECONDS_MAX,
            correlation_id=task_id,
            retry=True,
            retry_policy=current_app.conf.task_publish_retry_policy,
        )


class _Prepared(NamedTuple):
    """What all hints of a task have in common."""

    headers: Mapping[str, Any]
    body: str
    content_type: str
    content_encoding: str


@lru_cache
def _prepare(task: str) -> _Prepared:
    """Have Celery make and spell a message of the task."""
    message = current_app.amqp.create_task_message("", task, ignore_result=True)
    content_type, content_encoding, body = dumps(
        message.body, serializer=current_app.conf.task_serializer
    )
    return _Prepared(message.headers, body, content_type, content_encoding)


_nudger = Nudger()


def send(kind: "Kind") -> None:
    """Send a hint through this process's nudger."""
    _nudger.send(kind)
