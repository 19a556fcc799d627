"""What belongs to the request or task being served, and to nothing else."""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class RequestContext:
    """One request or task: its id (and whether a client gave it), its trace, when it began."""

    request_id: str = ""
    traceparent: str = ""
    is_given: bool = False
    # Whether its answer is a replay.
    replayed: bool = False
    started: float = field(default_factory=time.monotonic)


_current: ContextVar[RequestContext | None] = ContextVar("kassa_request", default=None)


def current() -> RequestContext:
    """Return the context of this request or task; an empty one is begun where there is none."""
    found = _current.get()
    return found if found is not None else begin()


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
