"""
The outbox: events leave in the transaction of their change, and are worked from rows.

`publish` takes the snapshot; the outermost operation writes all of a transaction's events by its
last statement, as one batch. The relay gives committed batches their position in the
organisation's feed and one work row per interested consumer; a consumer's effect and its `done`
commit together. See events.md, section 1.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import structlog
from django.db import InterfaceError, OperationalError, connection

from apps.core import context, failpoints, queries, statements, transactions, work
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken
from apps.core.events import DATA_BYTES_MAX, Event, public_type
from apps.core.failpoints import Failpoint
from apps.core.ids import new_ids
from apps.core.models import EventWork, OutboxBatch, OutboxEvent

log = structlog.get_logger(__name__)

RELAY_KIND: Final = "core.relay"
CONSUME_KIND: Final = "core.consume"
# What a killed worker held is with another within a minute, that one's start included.
_LEASE_SECONDS: Final = 45
_PORTION: Final = 500
# What a consumer is given in one transaction. Ten of these, which one claim may bring, are over
# within the lease, also where each event is owed to the sixteen endpoints of an organisation.
_EVENTS_MAX: Final = 250
# An ordered consumer's row looks again after this; each time doubles it, up to half a minute.
_WAIT_SECONDS: Final = 0.2
_WAIT_SECONDS_MAX: Final = 30.0
_WAITS: Final = "waits_for_earlier"

# One statement for a batch and its events, whether there is one or ten thousand. A batch without
# public events owes nobody anything: it is done as it is written. What is the same for all events
# of a kind travels once.
_WRITE: Final = """
    WITH batch AS (
        INSERT INTO core_outbox_batch (id, organization_id, public, event_count, inserted_at, state,
            attempts, lapses, next_attempt_at, last_error_code, traceparent)
        VALUES (%(batch)s, %(org)s, %(public)s, %(count)s, clock_timestamp(), %(state)s, 0, 0,
                clock_timestamp(), '', %(traceparent)s)
    )
    INSERT INTO core_outbox_event (id, organization_id, batch_id, ordinal, name, type, public,
        schema_version, aggregate_type, aggregate_id, sequence, occurred_at, recorded_at, actor,
        request_id, traceparent, data)
    SELECT e.id, %(org)s, %(batch)s, e.ordinal - 1, k.name, k.type, k.public, k.schema_version,
           k.aggregate_type, e.aggregate_id, e.sequence, e.occurred_at, clock_timestamp(), e.actor,
           e.request_id, e.traceparent, e.data::jsonb
      FROM unnest(%(ids)s::uuid[], %(kinds)s::int[], %(aggregates)s::text[],
                  %(sequences)s::bigint[], %(occurred)s::timestamptz[], %(actors)s::text[],
                  %(requests)s::text[], %(traces)s::text[], %(data)s::text[])
           WITH ORDINALITY AS e(id, kind, aggregate_id, sequence, occurred_at, actor, request_id,
                                traceparent, data, ordinal)
      JOIN unnest(%(names)s::text[], %(types)s::text[], %(publics)s::boolean[],
                  %(versions)s::int[], %(aggregate_types)s::text[])
           WITH ORDINALITY AS k(name, type, public, schema_version, aggregate_type, kind)
        ON k.kind = e.kind
"""
_NUMBER: Final = """
    UPDATE core_outbox_batch AS batch
       SET position = given.place + %s, state = 'done', lapses = 0, last_error_code = '',
           lease_until = NULL, lease_token = NULL
      FROM unnest(%s::uuid[]) WITH ORDINALITY AS given(id, place)
     WHERE batch.organization_id = %s AND batch.id = given.id
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


type Handler = Callable[[UUID, Sequence[OutboxEvent]], None]


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who is given committed events, and whether those of one aggregate must come in order."""

    handler: Handler
    ordered: bool = False


_consumers: dict[str, Consumer] = {}


def publish(event: Event, *, actor: Actor, now: datetime) -> None:  # noqa: ARG001
    """
    Take the event's snapshot; it is written by the last statement before COMMIT.

    `now` is the audit time of the act; the row's own `recorded_at` is the database's clock.

    :raises InvariantBroken: outside an outermost operation, for a second organisation in one
        transaction, or for more than 16 kB of data
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
        # A character has four bytes at most, so most texts need no second look.
        if len(event.data) * 4 > DATA_BYTES_MAX and len(event.data.encode()) > DATA_BYTES_MAX:
            msg = f"{event.kind.name} carries more than {DATA_BYTES_MAX} bytes."
            raise InvariantBroken(msg)
    if events and not unit.events:
        unit.before_commit.append(_flush)
    unit.events.extend(events)


def _flush() -> None:
    published = [item for item in transactions.current().events if isinstance(item, Published)]
    columns = list(zip(*published, strict=True))
    organizations = set(columns[1])
    if len(organizations) != 1:
        msg = "One transaction moves one organisation."
        raise InvariantBroken(msg)
    kinds = list(dict.fromkeys(columns[0]))
    places = {kind: place for place, kind in enumerate(kinds, 1)}
    batch_id, *ids = new_ids(1 + len(published))
    is_public = any(kind.public for kind in kinds)
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
            "kinds": statements.int4s([places[kind] for kind in columns[0]]),
            "aggregates": statements.texts(columns[2]),
            "sequences": statements.int8s(columns[3]),
            "occurred": statements.instants(columns[4]),
            "actors": statements.texts(columns[5]),
            "requests": statements.texts(columns[6]),
            "traces": statements.texts(columns[7]),
            "data": statements.texts(columns[8]),
            "names": statements.texts([kind.name for kind in kinds]),
            "types": statements.texts([public_type(kind.name) for kind in kinds]),
            "publics": statements.booleans([kind.public for kind in kinds]),
            "versions": statements.int4s([kind.schema_version for kind in kinds]),
            "aggregate_types": statements.texts([kind.aggregate_type for kind in kinds]),
        },
    )
    if is_public:
        work.nudge(RELAY_KIND)


def register_consumer(*, name: str, handler: Handler, ordered: bool = False) -> None:
    """
    Have `handler(organization_id, events)` called with each committed batch's public events.

    It runs inside a transaction, with at most 250 events of one batch in order; its effect commits
    together with the note that they are worked. It may be called again after a crash, must accept
    batches in any order, and what it failed at twice it gets event by event. It sees what is
    relayed from now on, not the past.

    An `ordered` consumer gets an event only after every earlier one of its aggregate: one that
    fails holds back those after it, and nothing else, until it is quarantined.
    """
    _consumers[name] = Consumer(handler, ordered=ordered)


def register_work_kinds() -> None:
    work.register_kind(name=RELAY_KIND, model=OutboxBatch, task="core.relay", queue="events")
    work.register_kind(name=CONSUME_KIND, model=EventWork, task="core.consume", queue="events")


def relay(*, limit: int = 500) -> int:
    """Give committed batches their position and consumers their work; return how many were due."""
    claimed = work.claim_due(OutboxBatch, limit=limit, lease_seconds=_LEASE_SECONDS)
    for organization_id in {batch.organization_id: None for batch in claimed}:
        relay_organization(organization_id=organization_id)
    return len(claimed)


def relay_organization(*, organization_id: UUID) -> None:
    """Give every batch that this organisation has committed its position, due or not."""
    # In portions, so that a long backlog is no long transaction.
    while _relay_portion(organization_id=organization_id) == _PORTION:
        pass


@transactions.outermost
def _relay_portion(*, organization_id: UUID) -> int:
    """
    Number the organisation's oldest committed batches, whoever has leased them; return how many.

    A batch is never numbered before one that was committed earlier, even if the worker that leased
    the earlier one is slow or dead: an aggregate's events keep their order in the feed.
    """
    # The head's lock makes one relay at a time number this organisation's batches.
    head = queries.lock_feed_head(organization_id=organization_id)
    ids = queries.lock_unnumbered_batch_ids(organization_id=organization_id, limit=_PORTION)
    if not ids:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_NUMBER, [head.last_position, ids, organization_id])
    head.last_position += len(ids)
    head.save(update_fields=["last_position"])
    rows = [
        EventWork(organization_id=organization_id, batch_id=batch_id, consumer=name)
        for batch_id in ids
        for name in _consumers
    ]
    EventWork.objects.bulk_create(rows, ignore_conflicts=True)
    failpoints.reach(Failpoint.OUTBOX_NUMBERED)
    if rows:
        work.nudge(CONSUME_KIND)
    return len(ids)


def consume(*, limit: int = 10) -> int:
    """
    Work due batches for their consumers; a consumer that fails delays only its own row.

    Of a large batch one portion is worked; the rest takes its turn among all that is due.
    """
    claimed = work.claim_due(EventWork, limit=limit, lease_seconds=_LEASE_SECONDS)
    for row in claimed:
        try:
            _consume_row(row)
        # The boundary: one poison batch must not hold up the others; its row records the fault.
        except Exception as fault:
            log.exception("consumer_failed", consumer=row.consumer, batch_id=str(row.batch_id))
            _record_failure(row, is_passing=isinstance(fault, OperationalError | InterfaceError))
    return len(claimed)


@transactions.outermost
def _consume_row(claimed: EventWork) -> None:
    row = _lock_row(claimed)
    if row is None:
        return
    consumer = _consumers.get(row.consumer)
    if consumer is None:
        # While releases change over, another process may know it already, or still.
        work.mark_retry(row, error_code="consumer_unknown")
        return
    portion = _portion(row)
    waiting = _waiting(row, portion) if consumer.ordered else []
    if waiting and portion.is_last and len(waiting) == len(portion.events):
        delay = min(_WAIT_SECONDS * 2 ** min(row.attempts - 1, 10), _WAIT_SECONDS_MAX)
        work.mark_retry(row, error_code=_WAITS, delay_seconds=delay)
        return
    _work(row, consumer, portion, waiting)


def _work(
    row: EventWork, consumer: Consumer, portion: "_Portion", waiting: Sequence[OutboxEvent]
) -> None:
    """Hand over what need not wait; the rest gets rows of its own, and holds up nothing else."""
    apart = {event.ordinal for event in waiting}
    ready = [event for event in portion.events if event.ordinal not in apart]
    if waiting:
        _set_apart(row, waiting)
    if ready:
        consumer.handler(row.organization_id, ready)
        failpoints.reach(Failpoint.OUTBOX_CONSUMED)
    _move_on(row, portion)


def _waiting(row: EventWork, portion: "_Portion") -> list[OutboxEvent]:
    """Return the events of the portion that wait for an earlier one of their aggregate."""
    # Rows are made in the order of positions and done in the transaction of their effect: what is
    # not seen as open here was worked before, whoever worked it.
    ordinals = queries.list_waiting_ordinals(row=row, events=portion.events)
    return [event for event in portion.events if event.ordinal in ordinals]


@dataclass(frozen=True, slots=True)
class _Portion:
    """Events of one batch that are worked in one transaction; `is_last` if no more follow."""

    events: Sequence[OutboxEvent]
    is_last: bool


def _portion(row: EventWork) -> _Portion:
    """
    Return what is to be worked next: the row's one event, or the next ones of its batch.

    Each try that failed halves their number. So what takes too long for one transaction ends.
    """
    limit = max(1, _EVENTS_MAX >> (_tries(row) - 1))
    batch = {"organization_id": row.organization_id, "batch_id": row.batch_id}
    if row.ordinal is not None:
        return _Portion(
            queries.list_batch_events(**batch, first=row.ordinal, limit=1), is_last=True
        )
    found = queries.list_batch_events(**batch, first=row.next_ordinal, limit=limit + 1)
    return _Portion(found[:limit], is_last=len(found) <= limit)


def _tries(row: EventWork) -> int:
    """Return which try of its work this is: to look and wait is none."""
    return 1 if row.last_error_code == _WAITS else row.attempts


def _move_on(row: EventWork, portion: _Portion) -> None:
    """Record that this portion is worked, or set apart."""
    if portion.is_last:
        work.mark_done(row)
        return
    row.next_ordinal = portion.events[-1].ordinal + 1
    row.save(update_fields=["next_ordinal"])
    work.mark_continued(row)


@transactions.outermost
def _record_failure(claimed: EventWork, *, is_passing: bool) -> None:
    """Put the row off; what failed twice is worked event by event, so that one alone is poison."""
    row = _lock_row(claimed)
    if row is None:
        return
    tries = _tries(row)
    if row.ordinal is None and tries > 1 and not is_passing:
        portion = _portion(row)
        if len(portion.events) > 1 or not portion.is_last:
            _set_apart(row, portion.events)
            _move_on(row, portion)
            return
    row.attempts = tries
    row.save(update_fields=["attempts"])
    work.mark_retry(row, error_code="consumer_failed")


def _set_apart(row: EventWork, events: Sequence[OutboxEvent]) -> None:
    """Give events of the row's batch rows of their own."""
    EventWork.objects.bulk_create(
        EventWork(
            organization_id=row.organization_id,
            batch_id=row.batch_id,
            consumer=row.consumer,
            ordinal=event.ordinal,
        )
        for event in events
    )
    work.nudge(CONSUME_KIND)


def _lock_row(claimed: EventWork) -> EventWork | None:
    row = work.lock_leased(
        EventWork,
        organization_id=claimed.organization_id,
        row_id=claimed.id,
        lease_token=claimed.lease_token,
    )
    if row is None:
        log.info("work_lease_lost", kind=CONSUME_KIND, row_id=str(claimed.id))
    return row
