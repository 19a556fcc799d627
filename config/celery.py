"""The Celery application. Its settings are in config/settings/_celery.py."""

import os
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
