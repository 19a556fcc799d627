"""manage.py event_catalogue: write docs/events.md from the event classes, or notice a drift."""

import ast
import inspect
import sys
import textwrap
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import fields
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints, override

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.core.events import Event, catalogued_events, public_type

INTRODUCTION: Final = """# Events

Written by `manage.py event_catalogue` from the event classes; `make check` fails on a drift.

Each event reaches an endpoint, and `GET /v1/events`, in this envelope:

| Field | Meaning |
|---|---|
| `id` | `evt_…`; also the `webhook-id` of every delivery of it |
| `type` | one of the types below |
| `timestamp` | when it happened, an instant |
| `api_version` | that of `data`: the endpoint's, or that of the key that reads the feed |
| `organization_id` | whose it is |
| `sequence` | 1, 2, 3… of the aggregate: a gap means that one is still on its way |
| `aggregate` | `type` and `id` of what changed |
| `data` | the fields below: a snapshot right after the change |

Amounts are whole numbers of minor units. Instants are RFC 3339 in UTC, ids have their prefix.
Within a version fields are added, never removed or given another type; a consumer passes over what
it does not know.
"""

# What a field of this name is wherever it stands and says nothing of its own.
COMMON: Final = {
    "id": "What changed.",
    "state": "Its state after the change.",
    "status": "Its status after the change.",
    "customer": "Whose it is.",
    "amount": "In minor units of `currency`.",
    "currency": "ISO 4217.",
    "external_id": "The id that the client gave it.",
    "reference": "The client's own reference.",
    "reason": "Why.",
}
_WORDS: Final[dict[object, str]] = {
    str: "string",
    int: "integer",
    bool: "boolean",
    datetime: "instant",
    date: "date",
    Any: "any",
}


class Command(BaseCommand):
    help = "Write the catalogue of public events to docs/events.md; --check only compares."

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="Exit 1 if the file differs.")

    @override
    def handle(self, *, check: bool = False, **_: object) -> None:
        path = Path(settings.BASE_DIR) / "docs" / "events.md"
        text = render([kind for kind in catalogued_events() if kind.public])
        if check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                self.stderr.write("docs/events.md is out of date: run manage.py event_catalogue")
                sys.exit(1)
            return
        path.write_text(text, encoding="utf-8")
        self.stdout.write(f"{text.count(chr(10) + '## ')} events written to docs/events.md.")


def render(kinds: list[type[Event]]) -> str:
    """Return the whole page."""
    ordered = sorted(kinds, key=lambda kind: public_type(kind.name))
    return "\n".join([INTRODUCTION, *("\n".join(_section(kind)) for kind in ordered)])


def _section(kind: type[Event]) -> Iterator[str]:
    yield f"## `{public_type(kind.name)}`"
    yield ""
    if told := _docstring(kind):
        yield f"{told}\n"
    yield f"Aggregate `{kind.aggregate_type}`, since {kind.since}."
    yield ""
    yield "| Field | Type | Meaning |"
    yield "|---|---|---|"
    own, hints = _field_docs(kind), get_type_hints(kind)
    envelope = {field.name for field in fields(Event)}
    for field in fields(kind):
        if field.name not in envelope:
            meaning = own.get(field.name) or COMMON.get(field.name, "")
            yield f"| `{field.name}` | {_words(hints[field.name])} | {meaning} |"
    yield ""


def _docstring(kind: type[Event]) -> str:
    """Return what the class says of itself, or the nearest class above that says something."""
    for base in kind.__mro__:
        # A dataclass without a docstring is given its signature for one.
        told = vars(base).get("__doc__") or ""
        if base is not Event and issubclass(base, Event) and not told.startswith(base.__name__):
            return inspect.cleandoc(told)
        if base is Event:
            break
    return ""


def _field_docs(kind: type[Event]) -> dict[str, str]:
    """Return the texts that stand right under fields, of the class and those above it."""
    found: dict[str, str] = {}
    for base in reversed([base for base in kind.__mro__ if issubclass(base, Event)]):
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = definition.body if isinstance(definition, ast.ClassDef) else []
        for statement, following in pairwise(body):
            match statement, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str() as told)),
                ):
                    found[name] = " ".join(told.split())
                case _:
                    pass
    return found


def _words(hint: Any) -> str:  # noqa: ANN401  (a type, of any kind)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        shown = [_words(argument) for argument in arguments if argument is not NoneType]
        return " or ".join([*shown, "null"] if NoneType in arguments else shown)
    if origin in {list, tuple}:
        return f"list of {_words(arguments[0])}" if arguments else "list"
    if dict in {origin, hint}:
        return "object"
    return _WORDS.get(hint) or str(getattr(hint, "__name__", hint))
