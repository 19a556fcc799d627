"""Structured logs on stdout: a JSON object on each line, or plain lines for a terminal."""

import logging
import time
from collections.abc import Iterable, MutableMapping, Sequence
from itertools import batched
from typing import Any, Final, override

import msgspec
import structlog

from apps.core import clock, context
from config.redaction import redact, redact_text

# The last word on every line before it is written, whoever logged it.
_KEPT = frozenset({"_record", "_from_structlog", "ts", "level"})


def add_request(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Name the request or task in which the line was written, and the trace it belongs to."""
    found = context.current()
    if found.request_id:
        event.setdefault("request_id", found.request_id)
    if found.traceparent:
        event.setdefault("trace_id", found.trace_id)
    return event


def redact_event(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Mask by name and shape; one event is one line, so control characters are escaped."""
    for name, value in event.items():
        if name not in _KEPT:
            event[name] = redact(value, name=name)
    return event


def render_json(event: MutableMapping[str, Any]) -> str:
    """Return the event as one line of JSON; what JSON has no form for is shown as Python does."""
    return msgspec.json.encode(event, enc_hook=repr).decode()


# --- The line of a request ----------------------------------------------------------------------

REQUESTS: Final = "kassa.request"
_requests: Final = logging.getLogger(REQUESTS)

# So many are no longer than a pipe takes in one piece (PIPE_BUF), whatever they say: processes that
# write to the same one never break into each other's lines.
TOGETHER_MAX: Final = 10

type Line = dict[str, Any]


class _Lines(structlog.stdlib.ProcessorFormatter):
    """Renders each line by its processors, except requests', which were made to be printed."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        if record.name == _requests.name and isinstance(record.msg, tuple):
            return "\n".join(self._print_all(record.msg))
        return super().format(record)

    def _print_all(self, lines: Sequence[Line]) -> Iterable[str]:
        return map(render_json, lines)


class _ConsoleLines(_Lines):
    @override
    def _print_all(self, lines: Sequence[Line]) -> Iterable[str]:
        for line in lines:
            record = _make_record(line)
            # By these two the common formatter knows an event from a text.
            record.__dict__ |= {"_logger": _requests, "_name": "info"}
            yield super().format(record)


def describe_request(
    begun: context.RequestContext, *, method: str | None, route: str | None, status: int
) -> Line:
    """
    Return the one line of a request, for `write_requests`.

    There is one for each request, so it takes none of the common path's steps: every value is a
    number, a word of ours, or an id, which is masked here if a client chose it.
    """
    line = {
        "method": method,
        "route": route,
        "status": status,
        "replayed": begun.replayed,
        "duration_ms": round((time.monotonic() - begun.started) * 1000, 1),
        "event": "request",
        "level": "info",
        "logger": _requests.name,
        "ts": clock.now().isoformat()[: -len("+00:00")] + "Z",
        "request_id": redact_text(begun.request_id) if begun.is_given else begun.request_id,
    }
    if begun.traceparent:
        line["trace_id"] = begun.trace_id
    return line


def write_requests(lines: Sequence[Line]) -> None:
    """
    Write the lines of requests, before any of them is told its answer.

    Several are one record and one write: what the standard library does for a record costs more
    than a line, and each write lets go of the interpreter, which another thread takes then
    (docs/adr/0181).
    """
    if not _requests.isEnabledFor(logging.INFO):
        return
    for some in batched(lines, TOGETHER_MAX):
        _requests.handle(_make_record(some))


def log_request(
    begun: context.RequestContext, *, method: str | None, route: str | None, status: int
) -> None:
    """Write the one line of a request."""
    if _requests.isEnabledFor(logging.INFO):
        write_requests([describe_request(begun, method=method, route=route, status=status)])


def _make_record(said: object) -> logging.LogRecord:
    return _requests.makeRecord(_requests.name, logging.INFO, "", 0, said, (), None)


# --- All other lines ----------------------------------------------------------------------------

_COMMON: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    add_request,
]


def _render(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    return render_json(event)


def make_logging(*, level: str, form: str) -> dict[str, Any]:
    """Return the settings of the standard library's logging, structlog's loggers led into it."""
    structlog.configure(
        processors=[*_COMMON, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    lines: type[_Lines] = _Lines
    renderer: Any = _render
    if form == "console":
        lines = _ConsoleLines
        renderer = structlog.dev.ConsoleRenderer(
            colors=False, timestamp_key="ts", sort_keys=False, pad_event_to=0
        )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "lines": {
                "()": lines,
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
            # An error with its traceback for whatever Host a stranger sends: it is counted instead
            # (config/middleware.py), and has its warning and its line as every request that is 400.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            # A line for each call, address included: what we call logs what came of it.
            "httpx": {"level": "WARNING"},
            # A line for each task it takes, which the task's own line says better.
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            # A line for each hint that nobody took in time: thousands after workers were away.
            "celery.worker.request": {"level": "WARNING"},
            "celery.beat": {"level": "WARNING"},
        },
    }
