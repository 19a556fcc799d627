"""The Celery application. Its settings are in config/settings/_celery.py."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery import Celery, signals
from django.conf import settings

from apps.core import context
from config.errors import start_reporting
from config.memory import settle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

app = Celery("kassa")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.setup_logging.connect
def _keep_our_logging(**_: object) -> None:
    """Leave logging to Django's settings: a receiver is what keeps Celery from its own."""


@signals.worker_init.connect
@signals.beat_init.connect
def _start_reporting(**_: object) -> None:
    start_reporting(dsn=settings.SENTRY_DSN, environment=settings.SENTRY_ENVIRONMENT)


# A prefork worker's tasks run in its children, those of a pool of threads in itself.
@signals.worker_process_init.connect
@signals.worker_ready.connect
def _settle(**_: object) -> None:
    settle()


@signals.task_prerun.connect
def _begin_context(task_id: str, **_: Any) -> None:  # noqa: ANN401  Celery's signals are untyped
    context.begin(request_id=task_id)


# What the supervisor looks at (config/supervisor.py). A disk that is full must fail no task.
@signals.task_prerun.connect
def _mark_begin(**_: object) -> None:
    with suppress(OSError):
        if mark := _mark():
            mark.touch()


@signals.task_postrun.connect
def _mark_end(**_: object) -> None:
    with suppress(OSError):
        if mark := _mark():
            mark.unlink(missing_ok=True)


def _mark() -> Path | None:
    """Return the file that is there while this process or thread runs a task, if one watches."""
    if not settings.KASSA_WORKER_MARKS:
        return None
    # Not by the task's id: whoever sends a message chooses that.
    return Path(settings.KASSA_WORKER_MARKS, f"{os.getpid()}-{threading.get_ident()}")
