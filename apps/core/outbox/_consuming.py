"""Consumers are given what was committed: each event's effect and its `done` commit together."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import InterfaceError, OperationalError

from apps.core import context, failpoints, queries, transactions, work, working
from apps.core.failpoints import Failpoint
from apps.core.models import EventWork, OutboxEvent
from apps.core.outbox._following import WAITS, wait_for, wait_together, wake_followers
from apps.core.working import Together, Worker

CONSUME_KIND: Final = "core.consume"
# Of the relay and of consumers, whose transactions take a second or two: deliveries wait for both,
# so a dead worker's rows are with another sooner than those of other kinds.
HARD_SECONDS: Final = 30
# What a consumer is given in one transaction. That is over in a second or two, also where each
# event is owed to the sixteen endpoints of an organisation.
_EVENTS_MAX: Final = 250

type Handler = Callable[[UUID, Sequence[OutboxEvent]], None]


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who is given committed events, and whether those of one aggregate must come in order."""

    handler: Handler
    ordered: bool = False


_consumers: dict[str, Consumer] = {}


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


def consumer_names() -> list[str]:
    """Return who is given what is relayed from now on."""
    return list(_consumers)


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
    # What killed its workers twice is no more tried as a whole than what failed twice: the row
    # would be set aside with all that its batch still owes.
    if row.lapses > 1 and _split(row, portion):
        return
    # Rows are made in the order of positions and done in the transaction of their effect: what is
    # not seen as open here was worked before, whoever worked it.
    earlier = (
        queries.find_earlier_work(rows=[row], events=portion.events) if consumer.ordered else {}
    )
    waiting = [event for event in portion.events if event.id in earlier]
    if waiting and portion.is_last and len(waiting) == len(portion.events):
        wait_for(earlier, row=row, events=portion.events)
    else:
        _work(row, portion, waiting)


def _alike(row: EventWork) -> Hashable:
    """
    Return what rows have in common that may be worked together: all of it is to be tried.

    So are single events that had to wait; not those of a batch that failed.
    """
    is_whole = row.ordinal is None and not row.next_ordinal
    is_single = row.ordinal is not None and row.last_error_code == WAITS
    is_untried = row.attempts == 1 and not row.lapses
    return (row.organization_id, row.consumer) if (is_whole or is_single) and is_untried else None


@transactions.outermost
def _consume_together(claimed: list[EventWork]) -> Together[EventWork]:
    """
    Give a consumer the events of many rows at once; return which rows it left, or put off.

    What busy organizations owe is mostly batches of one event, each of which would cost a
    transaction; so would each look at one that has to wait. If one of the events is poison nothing
    of this is done, and each row is worked for itself.
    """
    consumer = _consumers.get(claimed[0].consumer)
    rows = {row.id: row for row in work.lock_all_leased(EventWork, claimed)}
    lost = len(claimed) - len(rows)
    if consumer is None or not rows:
        return Together(left=list(rows.values()), lost=lost)
    owed: Mapping[UUID, Sequence[OutboxEvent]] = queries.list_events_of_rows(
        organization_id=claimed[0].organization_id, rows=rows.values(), events_max=_EVENTS_MAX
    )
    free = _free(rows, owed) if consumer.ordered else owed
    if free:
        _hand_over(claimed[0].consumer, [event for events in free.values() for event in events])
        work.mark_all_done(EventWork, [rows.pop(id_) for id_ in free])
    held = [rows[id_] for id_ in owed if id_ in rows]
    waiting = wait_together(held, owed) if held else set()
    left = [row for row in rows.values() if row.id not in waiting]
    return Together(left=left, put_off=len(waiting), lost=lost)


def _free(
    rows: Mapping[UUID, EventWork], owed: Mapping[UUID, Sequence[OutboxEvent]]
) -> dict[UUID, Sequence[OutboxEvent]]:
    """Return the rows in which nothing waits for what is earlier, and not in these before it."""
    earlier = queries.find_earlier_work(
        rows=[rows[id_] for id_ in owed],
        events=[event for events in owed.values() for event in events],
    )
    held: set[tuple[str, str]] = set()
    free = {}
    for id_, events in owed.items():
        about = {(event.aggregate_type, event.aggregate_id) for event in events}
        # A row that is left is worked after these: so nothing that is later may go before it.
        if held & about or any(event.id in earlier for event in events):
            held |= about
        else:
            free[id_] = events
    return free


def _work(row: EventWork, portion: "_Portion", waiting: Sequence[OutboxEvent]) -> None:
    """Hand over what need not wait; the rest gets rows of its own, and holds up nothing else."""
    apart = {event.ordinal for event in waiting}
    ready = [event for event in portion.events if event.ordinal not in apart]
    if waiting:
        _set_apart(row, waiting, code=WAITS)
    if ready:
        _hand_over(row.consumer, ready)
    _move_on(row, portion)


def _hand_over(name: str, events: Sequence[OutboxEvent]) -> None:
    """Have a consumer work events of one organization; they lead to what it publishes."""
    consumer = _consumers[name]
    causes = [context.Cause(event.id, event.traceparent) for event in events]
    with context.because_of(*causes):
        consumer.handler(events[0].organization_id, events)
        failpoints.reach(Failpoint.OUTBOX_CONSUMED)
    if consumer.ordered:
        wake_followers(consumer=name, events=events, kind=CONSUME_KIND)


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
    if row.attempts > 1 and not is_passing and _split(row, _portion(row)):
        return
    work.mark_retry(row, error_code="consumer_failed")


def _split(row: EventWork, portion: _Portion) -> bool:
    """Give each event of a portion a row of its own; false if it is the last one anyway."""
    if portion.is_last and len(portion.events) <= 1:
        return False
    _set_apart(row, portion.events)
    _move_on(row, portion)
    return True


def _set_apart(row: EventWork, events: Sequence[OutboxEvent], *, code: str = "") -> None:
    """Give events of the row's batch rows of their own; the code says if they have to wait."""
    EventWork.objects.bulk_create(
        EventWork(
            organization_id=row.organization_id,
            batch_id=row.batch_id,
            consumer=row.consumer,
            ordinal=event.ordinal,
            last_error_code=code,
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
