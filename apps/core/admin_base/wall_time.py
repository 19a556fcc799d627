"""A day and a time as people type them: by the clocks of an organization."""

from datetime import datetime
from typing import Any, Final, override

from django import forms
from django.core.exceptions import ValidationError

from apps.core.wall_clock import first_instant_at

_YEAR_MIN: Final = 2000
_YEAR_MAX: Final = 2999


class WallTimeField(forms.Field):
    """A day and a time as a wall clock shows them; whose clock it is, the form knows."""

    widget = forms.TextInput(attrs={"type": "datetime-local", "placeholder": "2026-06-30T14:05"})

    @override
    def to_python(self, value: Any) -> datetime | None:
        if value in self.empty_values:
            return None
        typed = _read(str(value))
        # What lies beyond is a slip of the hand, and some of it no instant at all.
        if typed is None or typed.tzinfo is not None or not _YEAR_MIN <= typed.year <= _YEAR_MAX:
            raise ValidationError("A time is given like 2026-06-30T14:05.")
        return typed


def _read(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def instant_at(typed: datetime | None, *, zone: str) -> datetime | None:
    """Return the instant at which the clocks of the zone show what was typed, if anything was."""
    if typed is None:
        return None
    return first_instant_at(day=typed.date(), at=typed.time(), zone=zone)
