"""manage.py event_catalogue: write docs/events.md and its lock, or notice a drift."""

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Final, override

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.core import catalogue
from apps.core.catalogue import Lock
from apps.core.events import Event, catalogued_events, public_type

INTRODUCTION: Final = """# Events

Written by `manage.py event_catalogue` from the event classes; `make check` fails on a drift.

Each event reaches an endpoint (see [webhooks.md](webhooks.md)), and `GET /v1/events`, in this
envelope:

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
it does not know. A key subscribes to, and reads in the feed, what it has the scope for; to `*` with
the scopes of all. An endpoint that is sent more it neither leads elsewhere nor gives a new secret,
nor switches it on or has it sent anything again. `events.lock.json` is what was promised so far,
and `make check` holds every event to it. The same as JSON Schemas is in `openapi.yaml`, under
`webhooks`.
"""


class Command(BaseCommand):
    help = "Write the catalogue of public events, and what it promises, to docs/; or only compare."

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="Exit 1 if a file differs.")

    @override
    def handle(self, *, check: bool = False, **_: object) -> None:
        docs = Path(settings.BASE_DIR) / "docs"
        declared = catalogued_events()
        kinds = [kind for kind in declared if kind.public]
        lock = docs / "events.lock.json"
        faults = [fault for kind in declared for fault in catalogue.list_example_faults(kind)]
        faults += [fault for kind in kinds for fault in catalogue.list_unexplained_fields(kind)]
        faults += catalogue.list_broken_promises(_read_lock(lock), kinds)
        if faults:
            raise CommandError("\n".join(faults))
        for path, text in {docs / "events.md": render(kinds), lock: _write_lock(kinds)}.items():
            if not check:
                path.write_text(text, encoding="utf-8")
            elif not path.exists() or path.read_text(encoding="utf-8") != text:
                msg = f"docs/{path.name} is out of date: run manage.py event_catalogue"
                raise CommandError(msg)
        if not check:
            self.stdout.write(f"{len(kinds)} events written to docs/events.md.")


def render(kinds: list[type[Event]]) -> str:
    """Return the whole page."""
    ordered = sorted(kinds, key=lambda kind: public_type(kind.name))
    return "\n".join([INTRODUCTION, *("\n".join(_section(kind)) for kind in ordered)])


def _section(kind: type[Event]) -> Iterator[str]:
    yield f"## `{public_type(kind.name)}`"
    yield ""
    if told := catalogue.explain(kind):
        yield f"{told}\n"
    yield (
        f"Aggregate `{kind.aggregate_type}`, since {kind.since}, for a key with the scope"
        f" `{kind.read_scope}`."
    )
    yield ""
    yield "| Field | Type | Meaning |"
    yield "|---|---|---|"
    for field in catalogue.list_fields(kind):
        yield f"| `{field.path}` | {field.words} | {field.meaning} |"
    yield ""
    yield "```json"
    yield json.dumps(dict(kind.example), indent=2, ensure_ascii=False)
    yield "```"
    yield ""


def _read_lock(path: Path) -> Lock:
    locked: Lock = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return locked


def _write_lock(kinds: list[type[Event]]) -> str:
    return json.dumps(catalogue.lock_of(kinds), indent=2, sort_keys=True) + "\n"
