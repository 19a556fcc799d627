"""
Invariants: SQL that must return no row, run on a schedule and after each step of a journey.

Each app lists its own in `invariants.py`; this module collects and runs them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Final
from uuid import UUID

from django.apps import apps
from django.db import connection

INVARIANTS: Final[Mapping[str, str]] = {
    "events_of_an_aggregate_have_no_hole": """
        SELECT organization_id, aggregate_type, aggregate_id, sequence
          FROM (SELECT organization_id, aggregate_type, aggregate_id, sequence,
                       row_number() OVER (PARTITION BY organization_id, aggregate_type,
                                          aggregate_id ORDER BY sequence) AS place
                  FROM core_outbox_event WHERE public) AS numbered
         WHERE sequence <> place
    """,
    "feed_positions_have_no_hole": """
        SELECT organization_id, position, place
          FROM (SELECT organization_id, position,
                       row_number() OVER (PARTITION BY organization_id ORDER BY position) AS place
                  FROM core_outbox_batch WHERE position IS NOT NULL) AS numbered
         WHERE position <> place
    """,
    "batch_is_relayed_within_a_minute": """
        SELECT organization_id, id FROM core_outbox_batch
         WHERE public AND position IS NULL AND inserted_at < now() - interval '60 seconds'
    """,
    "batch_has_its_events": """
        SELECT b.organization_id, b.id FROM core_outbox_batch b
         WHERE b.event_count <> (SELECT COUNT(*) FROM core_outbox_event e
                                  WHERE e.organization_id = b.organization_id
                                    AND e.batch_id = b.id)
    """,
}
ROWS_SHOWN_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Breach:
    """An invariant that does not hold, and the first rows that break it."""

    name: str
    rows: tuple[dict[str, object], ...]


def collect(*, only_apps: frozenset[str] | None = None) -> dict[str, str]:
    """Return every app's invariants by name, or those of some apps."""
    found: dict[str, str] = {}
    for config in apps.get_app_configs():
        if not config.name.startswith("apps.") or (only_apps and config.label not in only_apps):
            continue
        if find_spec(f"{config.name}.invariants"):
            found |= import_module(f"{config.name}.invariants").INVARIANTS
    return found


def check(
    statements: Mapping[str, str], *, organization_id: UUID | None = None
) -> Iterator[tuple[str, Breach | None]]:
    """
    Run each statement; yield its name, and the breach if it returned a row.

    With an organisation only its rows are looked at: every statement names whose its rows are.
    """
    # Joined on the organisation or grouped by it, statements let Postgres look at no other.
    only = f" WHERE organization_id = '{organization_id}'" if organization_id else ""
    for name, sql in statements.items():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM ({sql}) AS breach{only} LIMIT {ROWS_SHOWN_MAX}")  # noqa: S608
            names = [column[0] for column in cursor.description or ()]
            rows = tuple(dict(zip(names, row, strict=True)) for row in cursor.fetchall())
        yield name, Breach(name, rows) if rows else None


def breaches() -> list[Breach]:
    """Return every invariant that does not hold now."""
    return [breach for _, breach in check(collect()) if breach is not None]
