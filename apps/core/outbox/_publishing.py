"""
Events leave with their change: a snapshot at the act, one INSERT before COMMIT.

A plain transfer writes its own, which is the same rows (`apps/ledger/sql/post_transfer.sql`).
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from apps.core import context, statements, transactions, work
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken
from apps.core.events import DATA_BYTES_MAX, Event, public_type
from apps.core.ids import new_ids
from apps.core.outbox._relaying import RELAY_KIND

# One statement for a batch and its events, whether there is one or ten thousand. A batch without
# public events owes nobody anything: it is done as it is written. What is the same for all events
# travels once, as their kind mostly is.
_WRITE: Final = """
    WITH batch AS (
        INSERT INTO core_outbox_batch (id, organization_id, public, event_count, inserted_at, state,
            attempts, lapses, next_attempt_at, last_error_code, traceparent)
        VALUES (%(batch)s, %(org)s, %(public)s, %(count)s, clock_timestamp(), %(state)s, 0, 0,
                clock_timestamp(), '', %(traceparent)s)
    )
    INSERT INTO core_outbox_event (id, organization_id, batch_id, ordinal, name, type, public,
        schema_version, aggregate_type, aggregate_id, sequence, occurred_at, recorded_at, actor,
        request_id, traceparent, causation_id, data)
    SELECT e.id, %(org)s, %(batch)s, e.ordinal - 1, e.name, e.type, e.public, e.schema_version,
           e.aggregate_type, e.aggregate_id, e.sequence, e.occurred_at, clock_timestamp(), e.actor,
           e.request_id, e.traceparent, e.causation_id, e.data::jsonb
      FROM unnest(%(ids)s::uuid[], %(aggregates)s::text[], %(data)s::text[],
                  /* same */ %(names)s::text[], %(types)s::text[], %(publics)s::boolean[],
                  %(versions)s::int[], %(aggregate_types)s::text[], %(sequences)s::bigint[],
                  %(causes)s::uuid[],
                  /* same */ %(occurred)s::timestamptz[], %(actors)s::text[],
                  %(requests)s::text[], %(traces)s::text[])
           WITH ORDINALITY AS e(id, aggregate_id, data, name, type, public, schema_version,
                                aggregate_type, sequence, causation_id, occurred_at, actor,
                                request_id, traceparent, ordinal)
"""


class Published(NamedTuple):
    """One event as it is written: whose, of what, and its data as JSON text."""

    kind: type[Event]
    organization_id: UUID
    aggregate_id: str
    sequence: int
    occurred_at: datetime
    actor: str
    request_id: str
    traceparent: str
    data: str
    causation_id: UUID | None = None

    @classmethod
    def of(cls, event: Event, actor: str, request_id: str, traceparent: str) -> "Published":
        """Take the event's snapshot."""
        return cls(
            type(event),
            event.organization_id,
            event.aggregate_id,
            event.sequence,
            event.occurred_at,
            actor,
            request_id,
            traceparent,
            json.dumps(event.data(), separators=(",", ":"), ensure_ascii=False),
        )


def publish(event: Event, *, actor: Actor, now: datetime) -> None:  # noqa: ARG001
    """
    Take the event's snapshot; it is written by the last statement before COMMIT.

    `now` is the audit time of the act; the row's own `recorded_at` is the database's clock.

    :raises InvariantBroken: outside an outermost operation, for a second organisation in one
        transaction, for more than 16 kB of data, or while a consumer works several events and
        does not say which of them led here
    """
    origin = context.current()
    publish_taken([Published.of(event, str(actor), origin.request_id, origin.traceparent)])


def publish_taken(events: Sequence[Published]) -> None:
    """
    Publish events whose snapshots were taken already: for what posts thousands at once.

    :raises InvariantBroken: as `publish` does
    """
    unit = transactions.current()
    for event in events:
        _require_short(event)
    if events and not unit.events:
        unit.before_commit.append(_flush)
    if (cause := context.find_cause()) is not None:
        events = [event._replace(causation_id=cause) for event in events]
    unit.events.extend(events)


def apart(events: Sequence[Published]) -> dict[str, object]:
    """
    Return the values of public events of one kind, and a batch for each, by columns.

    They are for a statement that writes both itself, and is all of its transaction or makes one for
    each: for the hottest path alone. Call `nudge` once they are committed.

    :raises InvariantBroken: as `publish` does
    """
    count = len(events)
    ids = new_ids(2 * count)
    return {"batches": statements.uuids(ids[:count]), **_columns(events, ids[count:])}


def together(events: Sequence[Published]) -> dict[str, object]:
    """
    Return the values of public events of one kind and of the batch of all of them, as `apart` does.

    :raises InvariantBroken: as `publish` does
    """
    batch_id, *ids = new_ids(1 + len(events))
    trace = context.current().traceparent
    return {"batch": batch_id, "batch_trace": trace, **_columns(events, ids)}


def _columns(events: Sequence[Published], ids: Sequence[UUID]) -> dict[str, object]:
    for event in events:
        _require_short(event)
    kind, cause = events[0].kind, context.find_cause()
    return {
        "event_name": kind.name,
        "event_type": public_type(kind.name),
        "event_version": kind.schema_version,
        "aggregate_type": kind.aggregate_type,
        "events": statements.uuids(ids),
        "aggregates": statements.texts([event.aggregate_id for event in events]),
        "requests": statements.texts([event.request_id for event in events]),
        "traces": statements.texts([event.traceparent for event in events]),
        "causes": statements.uuids([event.causation_id or cause for event in events]),
        "data": statements.texts([event.data for event in events]),
    }


def nudge() -> None:
    """Have the relay look for what was published now, or once this transaction is committed."""
    work.nudge(RELAY_KIND)


def _require_short(event: Published) -> None:
    # A character has four bytes at most, so most texts need no second look.
    if len(event.data) * 4 > DATA_BYTES_MAX and len(event.data.encode()) > DATA_BYTES_MAX:
        msg = f"{event.kind.name} carries more than {DATA_BYTES_MAX} bytes."
        raise InvariantBroken(msg)


def _flush() -> None:
    published = [item for item in transactions.current().events if isinstance(item, Published)]
    columns = list(zip(*published, strict=True))
    # Counted in C, where they are the same object: the hash of an id is computed in Python.
    if columns[1].count(columns[1][0]) != len(published):
        msg = "One transaction moves one organisation."
        raise InvariantBroken(msg)
    kinds = columns[0]
    types = {kind: public_type(kind.name) for kind in set(kinds)}
    batch_id, *ids = new_ids(1 + len(published))
    is_public = any(kind.public for kind in types)
    statements.send(
        _WRITE,
        {
            "batch": batch_id,
            "org": columns[1][0],
            "public": is_public,
            "count": len(published),
            "state": work.WorkState.PENDING.value if is_public else work.WorkState.DONE.value,
            "traceparent": context.current().traceparent,
            "ids": statements.uuids(ids),
            "aggregates": statements.texts(columns[2]),
            "sequences": statements.int8s(columns[3]),
            "occurred": statements.instants(columns[4]),
            "actors": statements.texts(columns[5]),
            "requests": statements.texts(columns[6]),
            "traces": statements.texts(columns[7]),
            "data": statements.texts(columns[8]),
            # Few events have a cause. An array that is not there is one of nulls.
            "causes": statements.uuids(columns[9]) if any(columns[9]) else None,
            "names": statements.texts([kind.name for kind in kinds]),
            "types": statements.texts([types[kind] for kind in kinds]),
            "publics": statements.booleans([kind.public for kind in kinds]),
            "versions": statements.int4s([kind.schema_version for kind in kinds]),
            "aggregate_types": statements.texts([kind.aggregate_type for kind in kinds]),
        },
    )
    if is_public:
        nudge()
