"""What belongs to the request or task being served, and to nothing else."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class RequestContext:
    """One request or task: its id, its trace, and whether its answer is a replay."""

    request_id: str = ""
    traceparent: str = ""
    replayed: bool = False


_current: ContextVar[RequestContext | None] = ContextVar("kassa_request", default=None)


def current() -> RequestContext:
    """Return the context of this request or task; an empty one is begun where there is none."""
    found = _current.get()
    return found if found is not None else begin()


def begin(*, request_id: str = "", traceparent: str = "") -> RequestContext:
    """Begin a context. A middleware or task wrapper calls this once per request or task."""
    fresh = RequestContext(request_id=request_id, traceparent=traceparent)
    _current.set(fresh)
    return fresh
