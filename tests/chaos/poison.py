"""
Celery in a process whose consumer of webhooks meets its end at some events, by their text.

`poison.py <arguments of celery>`
"""

import os
import resource
import signal
from collections.abc import Callable, Sequence
from uuid import UUID

import django

django.setup()

from celery.__main__ import main  # noqa: E402

from apps.core import outbox  # noqa: E402
from apps.core.models import OutboxEvent  # noqa: E402
from apps.webhooks import handlers  # noqa: E402


def fail() -> None:
    raise ZeroDivisionError


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exhaust() -> None:
    """Ask for more memory than there is."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**31, limits[1]))
    try:
        bytearray(2**32)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


ENDS: dict[object, Callable[[], None]] = {
    "fail": fail,
    "die": die,
    "exhaust": exhaust,
}


def poisoned(organization_id: UUID, events: Sequence[OutboxEvent]) -> None:
    for event in events:
        ENDS.get(event.data.get("text"), lambda: None)()
    handlers.fan_out(organization_id, events)


outbox.register_consumer(name="webhooks", handler=poisoned, ordered=True)

if __name__ == "__main__":
    main()
