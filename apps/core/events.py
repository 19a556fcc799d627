"""The base of every event: a past fact, a snapshot taken under the lock that made it."""

from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import ClassVar, Final
from uuid import UUID

from django.apps import apps

from apps.core.errors import InvariantBroken
from apps.core.wall_clock import print_instant

DATA_BYTES_MAX: Final = 16_000
_ENVELOPE: Final = frozenset({"organization_id", "aggregate_id", "sequence", "occurred_at"})
_NAME_PARTS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Event:
    """
    One event. Fields beyond these four are its `data`, in the catalogue's order.

    `data` holds ids, states, money, codes, masked tails; never a full IBAN, a name, a secret. A
    text under a field, like a docstring, documents it in `docs/events.md`.
    """

    name: ClassVar[str]
    public: ClassVar[bool] = True
    aggregate_type: ClassVar[str]
    # What a key must have to read what this is about: that of the route which shows it. A public
    # event has one, so without it nobody is told.
    read_scope: ClassVar[str] = ""
    schema_version: ClassVar[int] = 1
    # The API version that brought it.
    since: ClassVar[str] = "2026-11-01"
    # Its data as it could be, for those who write a receiver.
    example: ClassVar[dict[str, object]] = {}

    organization_id: UUID
    aggregate_id: str
    sequence: int = 1
    occurred_at: datetime

    def data(self) -> dict[str, object]:
        """Return the event's own fields as JSON values."""
        return {
            field.name: _json(getattr(self, field.name))
            for field in fields(self)
            if field.name not in _ENVELOPE
        }


def public_type(name: str) -> str:
    """Return the type clients see: `payouts.payout.returned` is `payout.returned`."""
    parts = name.split(".")
    if len(parts) != _NAME_PARTS:
        msg = f"An event's name is app.noun.past_participle, not {name!r}."
        raise InvariantBroken(msg)
    return ".".join(parts[1:])


def event_classes() -> list[type[Event]]:
    """Return every event there is, by name; those of tests too, once they are imported."""
    _event_modules()
    found: list[type[Event]] = []
    todo = list(Event.__subclasses__())
    while todo:
        kind = todo.pop()
        todo.extend(kind.__subclasses__())
        if "name" in vars(kind):
            found.append(kind)
    return sorted(found, key=lambda kind: kind.name)


def catalogued_events() -> list[type[Event]]:
    """Return the events that the apps declare in their `events.py`, by name."""
    return [kind for kind in event_classes() if kind.__module__ in _event_modules()]


@cache
def _event_modules() -> frozenset[str]:
    # Imported here: which events there are must not depend on what a process happened to need.
    names = [f"{config.name}.events" for config in apps.get_app_configs()]
    found = [name for name in names if name.startswith("apps.") and find_spec(name)]
    return frozenset(import_module(name).__name__ for name in found)


def _json(value: object) -> object:
    match value:
        case datetime():
            return print_instant(value)
        case date() | UUID():
            return str(value)
        case list() | tuple():
            return [_json(item) for item in value]
        case dict():
            return {key: _json(item) for key, item in value.items()}
        case float() | Decimal():
            msg = f"An event carries no {type(value).__name__}: amounts are minor units."
            raise InvariantBroken(msg)
        case _:
            return value
