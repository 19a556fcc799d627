"""
Invariants: SQL that must return no row, run on a schedule and after each step of a journey.

Each app lists its own in its `invariants`; this module collects and runs them.

One that reads a table without bounds is a `Walk`: a portion of the keys to a statement. So no
statement comes near the limits of a connection or keeps an old snapshot for long, and who stops
between two of them goes on from there. Who has little time says how long a statement may take: one
that is cut off leaves its part unanswered and is told (ADR 0109).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import zip_longest
from typing import Final
from uuid import UUID

import structlog
from django.apps import AppConfig, apps
from django.db import OperationalError, connection

from apps.core import transactions, work

log = structlog.get_logger(__name__)

ROWS_SHOWN_MAX: Final = 5
# Rows of the largest table that a walk looks at by one statement: a second or two.
PORTION: Final = 200_000
_FIRST_KEY: Final = UUID(int=0)
_LAST_KEY: Final = UUID(int=2**128 - 1)
# What Postgres says of a statement that ran into its time limit.
_CANCELED: Final = "57014"
# Stands for all organizations together, where a walk does not go by them.
_EVERYONE: Final = UUID(int=1)


@dataclass(frozen=True, slots=True)
class Walk:
    """
    An invariant that is checked by organisation and by ranges of a key.

    `sql` looks at the keys of `%(org)s` that are > `%(after)s` and <= `%(upto)s`. `upto` is what
    `portion` returns for `%(org)s`, `%(after)s` and some `%(limit)s` rows: NULL says that no key is
    left, and then `sql` looks once more at all beyond. `next_organization` returns the first one
    after `%(after)s`, or no row. What is compared with each other is of one range, so each
    statement sees all it needs in its own snapshot.
    """

    sql: str
    portion: str
    next_organization: str


type Invariant = str | Walk


# The names in them are ours.
_OWN_STRETCH: Final = """
    SELECT * FROM "{table}"
     WHERE organization_id = %(org)s AND id > %(after)s AND id <= %(upto)s
"""
_STRETCH: Final = """
    SELECT * FROM "{table}" WHERE id > %(after)s AND id <= %(upto)s
       AND (%(org)s = '{everyone}'::uuid OR organization_id = %(org)s)
"""


def by_id(table: str, sql: str) -> Walk:
    """
    Return a walk along a table's primary key, through the rows of all organizations together.

    For tables that have no index by organization and id. Ids carry their time, so a portion is a
    stretch of it. `sql` reads those rows as `{rows}`, and what belongs to them by an index.
    """
    return Walk(
        sql.replace("{rows}", f"({_STRETCH.format(table=table, everyone=_EVERYONE)})"),
        f'SELECT id FROM "{table}" WHERE id > %(after)s'  # noqa: S608  (names are ours)
        " ORDER BY id OFFSET %(limit)s - 1 LIMIT 1",
        f"SELECT '{_EVERYONE}'::uuid WHERE %(after)s < '{_EVERYONE}'::uuid",
    )


def by_organization(table: str, sql: str) -> Walk:
    """
    Return a walk along a table's primary key, where that is the organization and the id.

    `sql` reads those rows as `{rows}`, and may name their organization as `%(org)s`.
    """
    return Walk(
        sql.replace("{rows}", f"({_OWN_STRETCH.format(table=table)})"),
        f'SELECT id FROM "{table}" WHERE organization_id = %(org)s AND id > %(after)s'  # noqa: S608  (names are ours)
        " ORDER BY id OFFSET %(limit)s - 1 LIMIT 1",
        f'SELECT organization_id FROM "{table}" WHERE organization_id > %(after)s'  # noqa: S608
        " ORDER BY organization_id LIMIT 1",
    )


# What went with its week breaks nothing (ADR 0107): a feed begins behind `dropped_position`. A row
# lies in the week of its id, which is of its machine's clock; so in the first hour that is kept,
# what came between two rows may have been of the week before.
INVARIANTS: Final[dict[str, Invariant]] = {
    "batch_is_relayed_within_a_minute": """
        SELECT organization_id, id, inserted_at FROM core_outbox_batch
         WHERE public AND position IS NULL
           AND inserted_at < statement_timestamp() - interval '60 seconds'
    """,
    "feed_head_is_its_last_position": """
        SELECT head.organization_id, head.last_position, last.position
          FROM core_feed_head AS head
         CROSS JOIN LATERAL (
               SELECT position FROM core_outbox_batch
                WHERE organization_id = head.organization_id AND position IS NOT NULL
                ORDER BY position DESC LIMIT 1) AS last
         WHERE head.last_position <> greatest(last.position, head.dropped_position)
    """,
    "feed_positions_have_no_hole": by_organization(
        "core_outbox_batch",
        """
        SELECT batch.organization_id, batch.id, batch.position
          FROM {rows} AS batch
          LEFT JOIN core_feed_head AS head ON head.organization_id = batch.organization_id
         WHERE batch.position > COALESCE(head.dropped_position, 0) + 1
           AND NOT EXISTS (
               SELECT FROM core_outbox_batch AS before
                WHERE before.organization_id = batch.organization_id
                  AND before.position = batch.position - 1)
        """,
    ),
    # Postgres itself refuses it within a week.
    "feed_position_is_given_once": by_organization(
        "core_outbox_batch",
        """
        SELECT batch.organization_id, batch.id, batch.position
          FROM {rows} AS batch
         WHERE EXISTS (
               SELECT FROM core_outbox_batch AS other
                WHERE other.organization_id = batch.organization_id
                  AND other.position = batch.position AND other.id <> batch.id)
        """,
    ),
    "batch_has_its_events": by_organization(
        "core_outbox_batch",
        """
        SELECT batch.organization_id, batch.id, batch.event_count, written.count
          FROM {rows} AS batch
         CROSS JOIN LATERAL (
               SELECT COUNT(*) AS count FROM core_outbox_event AS event
                WHERE event.organization_id = batch.organization_id
                  AND event.batch_id = batch.id) AS written
         WHERE batch.event_count <> written.count
        """,
    ),
    # An aggregate's lock is held until COMMIT, so whoever sees an event sees the one before it.
    # No index leads to an entry of the journal by its aggregate: see below.
    "events_of_an_aggregate_have_no_hole": by_organization(
        "core_outbox_event",
        """
        SELECT event.organization_id, event.aggregate_type, event.aggregate_id, event.sequence
          FROM {rows} AS event
          LEFT JOIN core_feed_head AS head ON head.organization_id = event.organization_id
         WHERE event.public AND event.sequence <> 1
           AND event.aggregate_type <> 'journal_entry'
           AND NOT EXISTS (
               SELECT FROM core_outbox_event AS before
                WHERE before.organization_id = event.organization_id
                  AND before.aggregate_type = event.aggregate_type
                  AND before.aggregate_type <> 'journal_entry'
                  AND before.aggregate_id = event.aggregate_id
                  AND before.sequence = event.sequence - 1 AND before.public)
           AND (head.kept_since IS NULL OR EXISTS (
               SELECT FROM core_outbox_event AS kept
                WHERE kept.organization_id = event.organization_id
                  AND kept.aggregate_type = event.aggregate_type
                  AND kept.aggregate_type <> 'journal_entry'
                  AND kept.aggregate_id = event.aggregate_id
                  AND kept.sequence < event.sequence AND kept.public
                  AND kept.recorded_at > head.kept_since + interval '1 hour'))
        """,
    ),
    # The first event of an entry is its posting, which the ledger asks for. The others are of what
    # was annotated later, and few.
    "events_of_an_entry_have_no_hole": """
        SELECT numbered.organization_id, aggregate_id, sequence, before
          FROM (SELECT organization_id, aggregate_id, sequence, lag(sequence) OVER own AS before,
                       lag(recorded_at) OVER own AS before_at
                  FROM core_outbox_event
                 WHERE public AND aggregate_type = 'journal_entry' AND sequence > 1
                WINDOW own AS (PARTITION BY organization_id, aggregate_id ORDER BY sequence)
               ) AS numbered
          LEFT JOIN core_feed_head AS head ON head.organization_id = numbered.organization_id
         WHERE sequence <> COALESCE(before, 1) + 1
           AND (head.kept_since IS NULL OR before_at > head.kept_since + interval '1 hour')
    """,
    "event_has_a_sequence_of_its_own": by_organization(
        "core_outbox_event",
        """
        SELECT event.organization_id, event.aggregate_type, event.aggregate_id, event.sequence
          FROM {rows} AS event
         WHERE event.public AND event.aggregate_type <> 'journal_entry'
           AND EXISTS (
               SELECT FROM core_outbox_event AS other
                WHERE other.organization_id = event.organization_id
                  AND other.aggregate_type = event.aggregate_type
                  AND other.aggregate_type <> 'journal_entry'
                  AND other.aggregate_id = event.aggregate_id
                  AND other.sequence = event.sequence AND other.public AND other.id <> event.id)
        """,
    ),
}
# Of each table of work rows. Who waits for so long waits for workers that are gone or too few.
_OVERDUE: Final = """
    SELECT {organization} AS organization_id, id, state, next_attempt_at
      FROM "{table}"
     WHERE state IN ('pending', 'leased')
       AND next_attempt_at < statement_timestamp() - interval '120 seconds'
     ORDER BY next_attempt_at
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run may go on: in the statement `name`, after a key of an organisation's."""

    name: str
    organization_id: UUID = _FIRST_KEY
    key: UUID = _LAST_KEY


@dataclass(frozen=True, slots=True)
class Breach:
    """An invariant that does not hold, and the first rows that break it."""

    name: str
    rows: tuple[dict[str, object], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """
    One statement that ran: what it found, and where to go on after it, None after the last.

    `is_done` says that the invariant is over: it was walked to its end, or broke. `is_cut` says
    that this statement took too long, so nothing is known of what it looked at.
    """

    name: str
    breach: Breach | None
    is_done: bool
    following: Place | None
    is_cut: bool = False


def collect(*, only_apps: frozenset[str] | None = None) -> dict[str, Invariant]:
    """
    Return every app's invariants by name, or those of some apps.

    Those that hold of any work row are made for each registered kind, and belong to its app.
    """
    found: dict[str, Invariant] = {}
    for config in apps.get_app_configs():
        if not config.name.startswith("apps.") or (only_apps and config.label not in only_apps):
            continue
        found |= own_of(config)
        found |= _of_work_rows(config.label)
    return found


def own_of(config: AppConfig) -> dict[str, Invariant]:
    """Return what an app's module of invariants lists, if it has one."""
    if not find_spec(f"{config.name}.invariants"):
        return {}
    listed: dict[str, Invariant] = import_module(f"{config.name}.invariants").INVARIANTS
    return listed


def _of_work_rows(app_label: str) -> dict[str, Invariant]:
    """Return that no open row of an app's registered kinds of work is overdue, one a table."""
    found: dict[str, Invariant] = {}
    for model in {kind.model: None for kind in work.kinds()}:
        if model._meta.app_label == app_label:
            table = model._meta.db_table
            owner = "organization_id" if work.has_organization(model) else "NULL::uuid"
            found[f"{table}_is_not_overdue"] = _OVERDUE.format(table=table, organization=owner)
    return found


def check(
    statements: Mapping[str, Invariant], *, organization_id: UUID | None = None
) -> Iterator[tuple[str, Breach | None]]:
    """
    Run each statement; yield its name, and the breach if it returned a row.

    With an organisation only its rows are looked at: every statement names whose its rows are.
    """
    for step in steps(statements, organization_id=organization_id):
        if step.is_done:
            yield step.name, step.breach


def steps(
    statements: Mapping[str, Invariant],
    *,
    organization_id: UUID | None = None,
    start: Place | None = None,
    portion: int = PORTION,
    seconds_max: float | None = None,
) -> Iterator[Step]:
    """
    Run the statements one by one, a walk's portion by portion; yield what each found.

    From `start` on, if that is a place in these statements. The invariant that it is in may have
    been looked at in part before. A statement that takes longer than `seconds_max` is cut off.
    """
    names = list(statements)
    first = names.index(start.name) if start is not None and start.name in statements else 0
    for name, after in zip_longest(names[first:], names[first + 1 :]):
        following = Place(after) if after else None
        invariant = statements[name]
        if isinstance(invariant, str):
            # Joined on the organisation or grouped by it, it lets Postgres look at no other.
            only = f" WHERE organization_id = '{organization_id}'" if organization_id else ""
            breach, is_cut = _run(name, f"({invariant}) AS breach{only}", seconds_max)
            yield Step(name, breach, is_done=True, following=following, is_cut=is_cut)
            continue
        place = start if start is not None and start.name == name else Place(name)
        bounds = _Bounds(portion, seconds_max)
        yield from _walk(invariant, organization_id, place, following, bounds)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """How many rows a statement of a walk looks at, and for how long at most."""

    portion: int
    seconds_max: float | None


def _walk(
    walk: Walk, only: UUID | None, place: Place, following: Place | None, bounds: _Bounds
) -> Iterator[Step]:
    """Yield the steps of a walk: the rest of the place's organisation, then those after it."""
    name = place.name
    while True:
        if place.key == _LAST_KEY:
            owner = only or _ask(walk.next_organization, after=place.organization_id)
            if owner is None:
                yield Step(name, None, is_done=True, following=following)
                return
            place = Place(name, owner, _FIRST_KEY)
        owner, after = place.organization_id, place.key
        upto = _ask(walk.portion, org=owner, after=after, limit=bounds.portion) or _LAST_KEY
        values = {"org": owner, "after": after, "upto": upto}
        breach, is_cut = _run(name, f"({walk.sql}) AS breach", bounds.seconds_max, **values)
        place = Place(name, owner, upto)
        is_done = breach is not None or (only is not None and upto == _LAST_KEY)
        yield Step(name, breach, is_done, following if is_done else place, is_cut)
        if is_done:
            return


def _ask(sql: str, **values: UUID | int) -> UUID | None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        found: UUID | None
        [found] = cursor.fetchone() or [None]
        return found


def _run(
    name: str, source: str, seconds_max: float | None, **values: UUID
) -> tuple[Breach | None, bool]:
    """Return what breaks the invariant, and whether the statement was cut off instead."""
    if seconds_max is None:
        return _find(name, source, values), False
    try:
        with transactions.limited(seconds=seconds_max):
            return _find(name, source, values), False
    except OperationalError as fault:
        if transactions.sqlstate(fault) != _CANCELED:
            raise
        where = {key: str(value) for key, value in values.items()}
        log.error("invariant_cut_off", invariant=name, seconds_max=seconds_max, **where)  # noqa: TRY400  (no fault of the code)
        return None, True


def _find(name: str, source: str, values: Mapping[str, UUID]) -> Breach | None:
    with connection.cursor() as cursor:
        # Without values a percent sign is one.
        cursor.execute(f"SELECT * FROM {source} LIMIT {ROWS_SHOWN_MAX}", values or None)  # noqa: S608
        names = [column[0] for column in cursor.description or ()]
        rows = tuple(dict(zip(names, row, strict=True)) for row in cursor.fetchall())
    return Breach(name, rows) if rows else None


def breaches() -> list[Breach]:
    """Return every invariant that does not hold now."""
    return [breach for _, breach in check(collect()) if breach is not None]
