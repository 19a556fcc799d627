"""What waits for an earlier event of its aggregate is looked at once that was worked."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db import connection

from apps.core import clock, queries, statements, transactions, work
from apps.core.ids import made_at
from apps.core.models import EventWork, OutboxEvent

WAITS: Final = "waits_for_earlier"
# Where nobody can wake it, a row that waits is looked at again after this, later after as long as
# it has waited, so that each time doubles it, up to half a minute.
_WAIT_SECONDS: Final = 0.2
_WAIT_SECONDS_MAX: Final = 30.0
# As many as one claim may bring: they are worked together, and wake those that follow them.
_FOLLOWERS_MAX: Final = 100
# Mostly nothing waits. Only what does, and what somebody is at, is open and due later than now, so
# that is seen without a look at the events, by a statement that is prepared: to plan the other one,
# over all weeks of events, takes longer than what most transactions here do.
_ANYTHING_WAITS: Final = """
    SELECT TRUE FROM core_event_work
     WHERE organization_id = %(org)s AND next_attempt_at > statement_timestamp()
       AND state = 'pending' AND consumer = %(consumer)s AND last_error_code = %(waits)s
     LIMIT 1
"""
# The condition on journal entries is their index's.
_FOLLOWERS: Final = """
    WITH following AS MATERIALIZED (
        SELECT later.batch_id, later.ordinal
          FROM unnest(%(types)s::text[], %(ids)s::text[], %(sequences)s::bigint[])
               AS worked(aggregate_type, aggregate_id, sequence)
         CROSS JOIN LATERAL (
               SELECT event.batch_id, event.ordinal
                 FROM core_outbox_event AS event
                WHERE event.organization_id = %(org)s
                  AND event.aggregate_type = worked.aggregate_type
                  AND event.aggregate_id = worked.aggregate_id
                  AND event.sequence > worked.sequence
                  AND event.public AND event.aggregate_type <> 'journal_entry'
                ORDER BY event.sequence LIMIT %(limit)s) AS later
    )
    SELECT work.id
      FROM following JOIN core_event_work AS work
        ON work.organization_id = %(org)s AND work.batch_id = following.batch_id
       AND work.consumer = %(consumer)s
       AND (work.ordinal IS NULL OR work.ordinal = following.ordinal)
     WHERE work.state = 'pending' AND work.last_error_code = %(waits)s
       AND work.next_attempt_at > statement_timestamp()
"""
_WAKE: Final = """
    WITH waiting AS (
        SELECT id FROM core_event_work
         WHERE organization_id = %(org)s AND id = ANY(%(rows)s)
           AND state = 'pending' AND last_error_code = %(waits)s
           AND next_attempt_at > statement_timestamp()
         ORDER BY id
           FOR NO KEY UPDATE {passing_over}
    )
    UPDATE core_event_work AS work SET next_attempt_at = statement_timestamp()
      FROM waiting
     WHERE work.organization_id = %(org)s AND work.id = waiting.id
    RETURNING work.id
"""
_WAKE_AT_ONCE: Final = _WAKE.format(passing_over="SKIP LOCKED")
_WAKE_AFTER_ALL: Final = _WAKE.format(passing_over="")


def wait_for(
    earlier: Mapping[UUID, UUID], *, row: EventWork, events: Sequence[OutboxEvent]
) -> None:
    """
    Have a locked row looked at again once an earlier one was worked, or after a while.

    `earlier` says for which row each of the row's events waits. Those stay locked until the
    transaction ends: so whoever works one of them after that finds this row waiting, and wakes it.
    One that is being worked just now, or was since `earlier` was read, may be over before this row
    is seen to wait: then it is looked at again at once.
    """
    ids = set(earlier.values())
    locked = queries.lock_open_event_work(organization_id=row.organization_id, ids=ids)
    will_be_woken = locked == ids and earlier == queries.find_earlier_work(
        rows=[row], events=events
    )
    delay = _delay_seconds(row) if will_be_woken else _WAIT_SECONDS
    work.mark_waiting(row, error_code=WAITS, delay_seconds=delay)


def wait_together(
    rows: Sequence[EventWork], events: Mapping[UUID, Sequence[OutboxEvent]]
) -> set[UUID]:
    """
    Have those of these locked rows wait, as `wait_for` has one, all of whose events are to wait.

    Return their ids; what else there is stays as it is. They may wait for each other: then none of
    the later ones is worked before this transaction has ended either.
    """
    find = partial(
        queries.find_earlier_work,
        rows=rows,
        events=[event for row in rows for event in events[row.id]],
        among=True,
    )
    earlier = find()
    waiting = [row for row in rows if all(event.id in earlier for event in events[row.id])]
    if not waiting:
        return set()
    locked = queries.lock_open_event_work(
        organization_id=rows[0].organization_id,
        ids={earlier[event.id] for row in waiting for event in events[row.id]},
    )
    now = find()
    woken: list[EventWork] = []
    others: list[EventWork] = []
    for row in waiting:
        places = {event.id: earlier[event.id] for event in events[row.id]}
        is_certain = all(now.get(id_) == place in locked for id_, place in places.items())
        (woken if is_certain else others).append(row)
    if woken:
        # Of who waited longest: new ones that come in all the time would have all looked at again.
        delay = max(_delay_seconds(row) for row in woken)
        work.mark_all_waiting(EventWork, woken, error_code=WAITS, delay_seconds=delay)
    work.mark_all_waiting(EventWork, others, error_code=WAITS, delay_seconds=_WAIT_SECONDS)
    return {row.id for row in waiting}


def _delay_seconds(row: EventWork) -> float:
    """Return after what time to look at a row again that will be woken: as long as it waited."""
    waited = (clock.now() - made_at(row.id)).total_seconds()
    return min(max(waited, _WAIT_SECONDS), _WAIT_SECONDS_MAX)


def wake_followers(*, consumer: str, events: Sequence[OutboxEvent], kind: str) -> None:
    """
    Have looked at what waits for these events, in the transaction in which they are worked.

    Else each would come at a time of its own, up to half a minute later, and mostly before the one
    that it waits for. What is looked at meanwhile finds that it cannot be woken (`wait_for`). What
    somebody has locked is woken after COMMIT: mostly it is what something else just now waits for.
    """
    last = {
        (event.aggregate_type, event.aggregate_id): event.sequence
        for event in sorted(events, key=lambda event: event.sequence)
        if event.aggregate_type != "journal_entry"
    }
    if not last:
        return
    whose: dict[str, Any] = {
        "org": events[0].organization_id,
        "consumer": consumer,
        "waits": WAITS,
    }
    if not statements.run(_ANYTHING_WAITS, whose):
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _FOLLOWERS,
            whose
            | {
                "types": [type_ for type_, _ in last],
                "ids": [id_ for _, id_ in last],
                "sequences": list(last.values()),
                "limit": _FOLLOWERS_MAX,
            },
        )
        followers = {id_ for (id_,) in cursor.fetchall()}
    if not followers:
        return
    woken = _wake(_WAKE_AT_ONCE, followers, organization_id=whose["org"], kind=kind)
    if left := followers - woken:
        transactions.on_commit(
            partial(_wake_after_all, left, organization_id=whose["org"], kind=kind)
        )


@transactions.outermost
def _wake_after_all(rows: set[UUID], *, organization_id: UUID, kind: str) -> None:
    """Wake what somebody had locked; who has a row that waits waits for nothing meanwhile."""
    _wake(_WAKE_AFTER_ALL, rows, organization_id=organization_id, kind=kind)


def _wake(statement: str, rows: set[UUID], *, organization_id: UUID, kind: str) -> set[UUID]:
    """Have those of these rows that wait looked at now; return which they are."""
    with connection.cursor() as cursor:
        cursor.execute(statement, {"org": organization_id, "rows": sorted(rows), "waits": WAITS})
        woken = {id_ for (id_,) in cursor.fetchall()}
    if woken:
        work.nudge(kind)
    return woken
