"""
The outbox: events leave in the transaction of their change, and are worked from rows.

`publish` takes the snapshot; the outermost operation writes all of a transaction's events by its
last statement, as one batch. The relay gives committed batches their position in the
organisation's feed and one work row per interested consumer; a consumer's effect and its `done`
commit together. See events.md, section 1.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import structlog
from django.db import InterfaceError, OperationalError, connection

from apps.core import clock, context, failpoints, queries, statements, transactions, work, working
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken
from apps.core.events import DATA_BYTES_MAX, Event, public_type
from apps.core.failpoints import Failpoint
from apps.core.ids import made_at, new_ids
from apps.core.models import EventWork, OutboxBatch, OutboxEvent
from apps.core.working import Worker

log = structlog.get_logger(__name__)

RELAY_KIND: Final = "core.relay"
CONSUME_KIND: Final = "core.consume"
# Of the relay and of consumers, whose transactions take a second or two: deliveries wait for both,
# so a dead worker's rows are with another sooner than those of other kinds.
HARD_SECONDS: Final = 30
# How long one claim of the relay goes on numbering.
_TURN_SECONDS: Final = 5.0
_PORTION: Final = 500
_ORGANIZATIONS_MAX: Final = 1_000
# What a consumer is given in one transaction. That is over in a second or two, also where each
# event is owed to the sixteen endpoints of an organisation.
_EVENTS_MAX: Final = 250
# An ordered consumer's row looks again after this, later after as long as it has waited, so that
# each time doubles it, up to half a minute.
_WAIT_SECONDS: Final = 0.2
_WAIT_SECONDS_MAX: Final = 30.0

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
        request_id, traceparent, causation_id, data)
    SELECT e.id, %(org)s, %(batch)s, e.ordinal - 1, k.name, k.type, k.public, k.schema_version,
           k.aggregate_type, e.aggregate_id, e.sequence, e.occurred_at, clock_timestamp(), e.actor,
           e.request_id, e.traceparent, e.causation_id, e.data::jsonb
      FROM unnest(%(ids)s::uuid[], %(kinds)s::int[], %(aggregates)s::text[],
                  %(sequences)s::bigint[], %(occurred)s::timestamptz[], %(actors)s::text[],
                  %(requests)s::text[], %(traces)s::text[], %(data)s::text[], %(causes)s::uuid[])
           WITH ORDINALITY AS e(id, kind, aggregate_id, sequence, occurred_at, actor, request_id,
                                traceparent, data, causation_id, ordinal)
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
        # A character has four bytes at most, so most texts need no second look.
        if len(event.data) * 4 > DATA_BYTES_MAX and len(event.data.encode()) > DATA_BYTES_MAX:
            msg = f"{event.kind.name} carries more than {DATA_BYTES_MAX} bytes."
            raise InvariantBroken(msg)
    if events and not unit.events:
        unit.before_commit.append(_flush)
    if (cause := context.find_cause()) is not None:
        events = [event._replace(causation_id=cause) for event in events]
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
            # Few events have a cause. An array that is not there is one of nulls.
            "causes": statements.uuids(columns[9]) if any(columns[9]) else None,
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
    Have `handler(organization_id, events)` called with committed batches' public events.

    It runs inside a transaction, with at most 250 events, of one batch or of several, each batch's
    in order; its effect commits together with the note that they are worked. It may be called again
    after a crash, must accept batches in any order, and what it failed at twice it gets event by
    event. It sees what is relayed from now on, not the past. What it publishes names the event that
    led to it; if it was given several, it says `with context.because_of(...)` which one.

    An `ordered` consumer gets an event only after every earlier one of its aggregate: one that
    fails holds back those after it, and nothing else, until it is quarantined.
    """
    _consumers[name] = Consumer(handler, ordered=ordered)


def relay(*, limit: int = 500, seconds_max: float = _TURN_SECONDS) -> int:
    """Give committed batches their position and consumers their work; return how many were due."""
    ends = time.monotonic() + seconds_max
    claimed = work.claim_due(OutboxBatch, limit=limit, lease_seconds=work.lease_of(HARD_SECONDS))
    waiting = {batch.organization_id: None for batch in claimed}
    if len(claimed) == limit:
        # A claim sees past no backlog here (ADR 0115); but what it leased is not what is numbered.
        waiting |= dict.fromkeys(queries.list_unnumbered_organizations(limit=_ORGANIZATIONS_MAX))
    turns = deque(waiting)
    while turns:
        organization_id = turns.popleft()
        try:
            if _relay_portion(organization_id=organization_id) == _PORTION:
                # Behind the others, which need not wait for all that one has.
                turns.append(organization_id)
        # The boundary: a feed that cannot go on holds up no other. Its batches' leases lapse.
        except Exception:
            log.exception("feed_not_relayed", organization_id=str(organization_id))
        if time.monotonic() > ends:
            break
    if turns:
        # The time was over before theirs: what is left is for who comes next.
        left = set(turns)
        work.give_back(OutboxBatch, [one for one in claimed if one.organization_id in left])
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
    traces = queries.lock_unnumbered_batches(organization_id=organization_id, limit=_PORTION)
    ids = list(traces)
    if not ids:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_NUMBER, [head.last_position, ids, organization_id])
    head.last_position += len(ids)
    head.save(update_fields=["last_position"])
    rows = [
        EventWork(organization_id=organization_id, batch_id=id_, consumer=name, traceparent=trace)
        for id_, trace in traces.items()
        for name in _consumers
    ]
    EventWork.objects.bulk_create(rows, ignore_conflicts=True)
    failpoints.reach(Failpoint.OUTBOX_NUMBERED)
    if rows:
        work.nudge(CONSUME_KIND)
    return len(ids)


def consume(*, limit: int | None = None) -> int:
    """
    Work due batches for their consumers; a consumer that fails delays only its own row.

    Of a large batch one portion is worked; the rest takes its turn among all that is due.
    """
    return working.work_due(CONSUMING, limit=limit)


def _consume_row(row: EventWork) -> None:
    consumer = _consumers.get(row.consumer)
    if consumer is None:
        work.mark_undeclared(row, error_code="consumer_unknown")
        return
    portion = _portion(row)
    waiting = _waiting(row, portion) if consumer.ordered else []
    if waiting and portion.is_last and len(waiting) == len(portion.events):
        waited = (clock.now() - made_at(row.id)).total_seconds()
        delay = min(max(waited, _WAIT_SECONDS), _WAIT_SECONDS_MAX)
        work.mark_waiting(row, error_code="waits_for_earlier", delay_seconds=delay)
        return
    _work(row, consumer, portion, waiting)


def _alike(row: EventWork) -> Hashable:
    """Return what rows have in common that may be worked together: all of it is to be tried."""
    is_whole = row.ordinal is None and not row.next_ordinal
    is_untried = row.attempts == 1 and not row.lapses
    return (row.organization_id, row.consumer) if is_whole and is_untried else None


@transactions.outermost
def _consume_together(claimed: list[EventWork]) -> list[EventWork]:
    """
    Give a consumer the events of many small batches at once; return the rows that it left.

    What busy organizations owe is mostly batches of one event, each of which would cost a
    transaction. If one of the events is poison nothing of this is done, and each row is worked for
    itself.
    """
    consumer = _consumers.get(claimed[0].consumer)
    rows = {row.batch_id: row for row in work.lock_all_leased(EventWork, claimed)}
    if consumer is None or not rows:
        return list(rows.values())
    batches: Mapping[UUID, Sequence[OutboxEvent]] = queries.list_whole_batches(
        organization_id=claimed[0].organization_id, batch_ids=list(rows), events_max=_EVENTS_MAX
    )
    if consumer.ordered:
        batches = _free(rows, batches)
    if batches:
        events = [event for batch in batches.values() for event in batch]
        _hand_over(consumer, events)
        work.mark_all_done(EventWork, [rows.pop(batch_id) for batch_id in batches])
    return list(rows.values())


def _free(
    rows: Mapping[UUID, EventWork], batches: Mapping[UUID, Sequence[OutboxEvent]]
) -> dict[UUID, Sequence[OutboxEvent]]:
    """Return the batches in which nothing waits for what is earlier, and not in these before it."""
    waiting = queries.list_waiting(
        rows=[rows[batch_id] for batch_id in batches],
        events=[event for batch in batches.values() for event in batch],
    )
    held: set[tuple[str, str]] = set()
    free = {}
    for batch_id, batch in batches.items():
        about = {(event.aggregate_type, event.aggregate_id) for event in batch}
        # A batch that is left is worked after these: so nothing that is later may go before it.
        if held & about or any(event.id in waiting for event in batch):
            held |= about
        else:
            free[batch_id] = batch
    return free


def _work(
    row: EventWork, consumer: Consumer, portion: "_Portion", waiting: Sequence[OutboxEvent]
) -> None:
    """Hand over what need not wait; the rest gets rows of its own, and holds up nothing else."""
    apart = {event.ordinal for event in waiting}
    ready = [event for event in portion.events if event.ordinal not in apart]
    if waiting:
        _set_apart(row, waiting)
    if ready:
        _hand_over(consumer, ready)
    _move_on(row, portion)


def _hand_over(consumer: Consumer, events: Sequence[OutboxEvent]) -> None:
    """Have the consumer work events of one organization; they lead to what it publishes."""
    causes = [context.Cause(event.id, event.traceparent) for event in events]
    with context.because_of(*causes):
        consumer.handler(events[0].organization_id, events)
        failpoints.reach(Failpoint.OUTBOX_CONSUMED)


def _waiting(row: EventWork, portion: "_Portion") -> list[OutboxEvent]:
    """Return the events of the portion that wait for an earlier one of their aggregate."""
    # Rows are made in the order of positions and done in the transaction of their effect: what is
    # not seen as open here was worked before, whoever worked it.
    waiting = queries.list_waiting(rows=[row], events=portion.events)
    return [event for event in portion.events if event.id in waiting]


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
    limit = max(1, _EVENTS_MAX >> (row.attempts - 1))
    batch = {"organization_id": row.organization_id, "batch_id": row.batch_id}
    if row.ordinal is not None:
        return _Portion(
            queries.list_batch_events(**batch, first=row.ordinal, limit=1), is_last=True
        )
    found = queries.list_batch_events(**batch, first=row.next_ordinal, limit=limit + 1)
    return _Portion(found[:limit], is_last=len(found) <= limit)


def _move_on(row: EventWork, portion: _Portion) -> None:
    """Record that this portion is worked, or set apart."""
    if portion.is_last:
        work.mark_done(row)
        return
    row.next_ordinal = portion.events[-1].ordinal + 1
    row.save(update_fields=["next_ordinal"])
    work.mark_continued(row)


def _put_off(row: EventWork, fault: Exception) -> None:
    """Put the row off; what failed twice is worked event by event, so that one alone is poison."""
    is_passing = isinstance(fault, OperationalError | InterfaceError)
    if row.ordinal is None and row.attempts > 1 and not is_passing:
        portion = _portion(row)
        if len(portion.events) > 1 or not portion.is_last:
            _set_apart(row, portion.events)
            _move_on(row, portion)
            return
    work.mark_retry(row, error_code="consumer_failed")


def _set_apart(row: EventWork, events: Sequence[OutboxEvent]) -> None:
    """Give events of the row's batch rows of their own."""
    EventWork.objects.bulk_create(
        EventWork(
            organization_id=row.organization_id,
            batch_id=row.batch_id,
            consumer=row.consumer,
            ordinal=event.ordinal,
            traceparent=row.traceparent,
        )
        for event in events
    )
    work.nudge(CONSUME_KIND)


CONSUMING: Final = Worker(
    kind=CONSUME_KIND,
    model=EventWork,
    task="core.consume",
    queue="events",
    hard_seconds=HARD_SECONDS,
    batch=100,
    perform=working.at_once(_consume_row),
    put_off=_put_off,
    alike=_alike,
    together=_consume_together,
    # One failing consumer delays only itself, also where both are of one organization.
    turn=lambda row: (row.organization_id, row.consumer),
)
