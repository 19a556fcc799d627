"""Structured logs on stdout: a JSON object on each line, or plain lines for a terminal."""

from collections.abc import MutableMapping
from typing import Any

import structlog

from apps.core import context
from config.redaction import redact

# The last word on every line before it is written, whoever logged it.
_KEPT = frozenset({"_record", "_from_structlog", "ts", "level"})


def add_request(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Name the request or task in which the line was written."""
    if request_id := context.current().request_id:
        event.setdefault("request_id", request_id)
    return event


def redact_event(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Mask by name and shape; one event is one line, so control characters are escaped."""
    for name, value in event.items():
        if name not in _KEPT:
            event[name] = redact(value, name=name)
    return event


_COMMON: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    add_request,
]


def make_logging(*, level: str, form: str) -> dict[str, Any]:
    """Return the settings of the standard library's logging, structlog's loggers led into it."""
    structlog.configure(
        processors=[*_COMMON, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = structlog.processors.JSONRenderer()
    if form == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=False, timestamp_key="ts", sort_keys=False, pad_event_to=0
        )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "lines": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [*_COMMON, structlog.stdlib.ExtraAdder()],
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    redact_event,
                    renderer,
                ],
            },
        },
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "lines",
            },
        },
        "root": {"level": level, "handlers": ["stdout"]},
        "loggers": {
            # Django adds handlers of its own to these two.
            "django": {"level": level, "handlers": [], "propagate": True},
            "django.server": {"level": level, "handlers": [], "propagate": True},
            # A line for each call, address included: what we call logs what came of it.
            "httpx": {"level": "WARNING"},
            # A line for each task it takes, which the task's own line says better.
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "celery.beat": {"level": "WARNING"},
        },
    }
