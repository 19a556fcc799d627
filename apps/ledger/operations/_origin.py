"""Where a command came from, as it stands on its entry and its events."""

from typing import NamedTuple

from apps.core import context
from apps.core.actors import Actor


class Origin(NamedTuple):
    """Who asked for a command, and in which request."""

    actor: str
    request_id: str
    traceparent: str

    @classmethod
    def of(cls, actor: Actor) -> "Origin":
        """Return the origin of what this actor asks in the request being served."""
        current = context.current()
        return cls(str(actor), current.request_id, current.traceparent)
