"""Spans of time that rows are looked for in."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time: from an instant on, and before another; None is open."""

    starts_at: datetime | None = None
    ends_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.starts_at is None and self.ends_at is None


def during(name: str, window: Window) -> Q:
    """Return the condition of rows whose column of that name lies in a window."""
    condition = Q()
    if window.starts_at is not None:
        condition &= Q(**{f"{name}__gte": window.starts_at})
    if window.ends_at is not None:
        condition &= Q(**{f"{name}__lt": window.ends_at})
    return condition
