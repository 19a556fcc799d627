"""What belongs to the request or task being served, and to nothing else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple
from uuid import UUID

from apps.core.errors import InvariantBroken

# version, trace, span and flags, as W3C's Trace Context has them.
_TRACE: Final = slice(3, 35)


class Cause(NamedTuple):
    """An event that is being worked: its id, and the trace in which it happened."""

    event_id: UUID
    traceparent: str = ""


@dataclass(slots=True)
class RequestContext:
    """One request or task: its id (and whether a client gave it), its trace, when it began."""

    request_id: str = ""
    traceparent: str = ""
    is_given: bool = False
    # Whether its answer is a replay.
    replayed: bool = False
    # The events that a consumer is working now.
    causes: tuple[UUID, ...] = ()
    started: float = field(default_factory=time.monotonic)

    @property
    def trace_id(self) -> str:
        """Return the trace that this belongs to, as logs name it; empty if it belongs to none."""
        return self.traceparent[_TRACE]


_current: ContextVar[RequestContext | None] = ContextVar("kassa_request", default=None)


def current() -> RequestContext:
    """Return the context of this request or task; an empty one is begun where there is none."""
    found = _current.get()
    return found if found is not None else begin()


def find_cause() -> UUID | None:
    """
    Return the event that leads to what is done now, or None.

    :raises InvariantBroken: if several are being worked, and which one it is was not said
    """
    causes = current().causes
    if len(causes) > 1:
        msg = "Of several events at work, say which one led here: context.because_of."
        raise InvariantBroken(msg)
    return causes[0] if causes else None


def begin(
    *,
    request_id: str = "",
    traceparent: str = "",
    is_given: bool = False,
    arrived: float | None = None,
) -> RequestContext:
    """
    Begin a context. A middleware or task wrapper calls this once per request or task.

    `arrived` is when it came, on the monotonic clock, if it has waited for its turn since.
    """
    fresh = RequestContext(request_id, traceparent, is_given)
    if arrived is not None:
        fresh.started = arrived
    _current.set(fresh)
    return fresh


def resume(known: RequestContext) -> None:
    """Go on in the context of a request, for a thread that serves several by turns."""
    _current.set(known)


@contextmanager
def in_trace(traceparent: str) -> Iterator[None]:
    """Go on in the trace that a work row or an event has kept; an empty one changes nothing."""
    with _changed(replace(current(), traceparent=traceparent or current().traceparent)):
        yield


@contextmanager
def because_of(*causes: Cause) -> Iterator[None]:
    """
    Have what is published meanwhile name the event that led to it, and go on in its trace.

    Of several causes none can be named: whoever publishes then says which one it was by calling
    this again with that one alone.
    """
    traces = {cause.traceparent for cause in causes}
    known = current()
    traceparent = (traces.pop() if len(traces) == 1 else "") or known.traceparent
    ids = tuple(cause.event_id for cause in causes)
    with _changed(replace(known, traceparent=traceparent, causes=ids)):
        yield


@contextmanager
def _changed(inner: RequestContext) -> Iterator[None]:
    outer = current()
    _current.set(inner)
    try:
        yield
    finally:
        _current.set(outer)
