"""After the POST: what became of a lane's attempts, and what that says of the endpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

import structlog

from apps.core import context, counters, failpoints, outbox, statements, transactions
from apps.core.failpoints import Failpoint
from apps.core.ids import new_ids
from apps.webhooks import events, queries
from apps.webhooks.models import WebhookLane
from apps.webhooks.operations import _lanes
from apps.webhooks.operations._health import store_health
from apps.webhooks.operations._opening import Seen
from apps.webhooks.operations._switching import ACTOR
from apps.webhooks.queries import Pending, Standing
from apps.webhooks.rules import retries, subscriptions
from apps.webhooks.rules.retries import Attempt, Health, Outcome
from apps.webhooks.states import DeliveryStatus

log = structlog.stdlib.get_logger("kassa.webhooks")

_ATTEMPTS: Final = counters.Counter(
    "kassa_webhook_attempts_total",
    "Attempts to deliver a webhook.",
    ("outcome",),
)
# Columns of whole numbers hold no null on their way: a status of 0 is none.
_APPEND: Final = """
    INSERT INTO webhooks_webhookattempt
        (id, organization_id, endpoint_id, delivery_id, number, started_at, duration_ms, outcome,
         status_code, address, answer_head)
    SELECT made.id, %(org)s, %(endpoint)s, made.delivery_id, made.number, made.started_at,
           made.duration_ms, made.outcome, nullif(made.status_code, 0), made.address, made.head
      FROM unnest(%(ids)s::uuid[], %(deliveries)s::uuid[], %(numbers)s::int[],
                  %(started)s::timestamptz[], %(durations)s::int[], %(outcomes)s::text[],
                  %(codes)s::int[], %(addresses)s::text[], %(heads)s::text[])
           AS made(id, delivery_id, number, started_at, duration_ms, outcome, status_code, address,
                   head)
"""
# One statement for all; a retry's delay is added to the database's clock. The ids stand there once
# more so that these rows alone are read: as long as a table's statistics are old, Postgres takes it
# for small, and would read all that an organization was ever owed to find them by a join.
_MOVE: Final = """
    UPDATE webhooks_webhookdelivery AS delivery
       SET status = moved.status, attempts = moved.attempts,
           attempts_made = delivery.attempts_made + 1,
           last_outcome = moved.outcome, last_status_code = nullif(moved.status_code, 0),
           next_attempt_at = CASE WHEN moved.status = 'pending'
                                  THEN clock_timestamp() + moved.delay * interval '1 microsecond'
                                  ELSE delivery.next_attempt_at END,
           closed_at = CASE WHEN moved.status = 'pending' THEN NULL ELSE %(now)s::timestamptz END,
           event_sequence = moved.event_sequence
      FROM unnest(%(ids)s::uuid[], %(statuses)s::text[], %(attempts)s::int[], %(outcomes)s::text[],
                  %(codes)s::int[], %(delays)s::bigint[], %(sequences)s::int[])
           AS moved(id, status, attempts, outcome, status_code, delay, event_sequence)
     WHERE delivery.organization_id = %(org)s AND delivery.id = moved.id
       AND delivery.id = ANY(%(ids)s)
"""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What recording found: whether the lane is still held, and what is to be done next."""

    is_held: bool
    is_out_of_date: bool = False
    is_gone: bool = False
    is_failing: bool = False
    is_circuit_closed: bool = False
    is_circuit_open: bool = False
    moves_to_slow: bool | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more of what was to be sent may be sent for now."""
        return self.is_out_of_date or self.is_gone or self.is_circuit_open


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moved:
    """What an attempt makes of its delivery; `delay_seconds` before the next one, if there is."""

    id: UUID
    attempt: Attempt
    attempts: int
    event_sequence: int
    status: DeliveryStatus
    delay_seconds: float


@transactions.outermost
def record_attempts(
    *, lane: WebhookLane, seen: Seen, attempts: Sequence[Attempt], is_last: bool, now: datetime
) -> Recorded:
    """
    Store what became of a lane's attempts, and let the lane go if these were the last.

    Who lost the lease stores the attempts as facts and leaves every state alone. What was sent to
    an endpoint that was changed since says nothing about what it is now.
    """
    standing = queries.lock_for_record(
        lane=lane,
        delivery_ids=[each.delivery_id for each in attempts],
        is_judged=not all(each.succeeded for each in attempts),
        append=partial(_append, lane, attempts),
    )
    failpoints.reach(Failpoint.WEBHOOKS_RECORDING)
    if not standing.is_held:
        log.info("webhook_lane_lost", lane_id=str(lane.id), attempts=len(attempts))
        return Recorded(is_held=False)
    is_out_of_date = standing.revision != seen.revision
    before = standing.health or Health()
    after = before
    for attempt in [] if is_out_of_date else attempts:
        after = retries.after_attempt(
            after,
            attempt,
            circuit_openings=seen.circuit_openings,
            database_now=standing.database_now,
        )
    if after != before:
        store_health(
            organization_id=lane.organization_id, endpoint_id=lane.endpoint_id, health=after
        )
    _move(lane, standing, attempts, now=now)
    if is_last:
        _lanes.let_go(lane, not_before=after.circuit_open_until)
    if is_out_of_date:
        return Recorded(is_held=True, is_out_of_date=True)
    return _recorded(standing, attempts, before, after, now=now)


def _append(lane: WebhookLane, attempts: Sequence[Attempt]) -> None:
    if not attempts:
        return
    statements.send(
        _APPEND,
        {
            "org": lane.organization_id,
            "endpoint": lane.endpoint_id,
            "ids": statements.uuids(new_ids(len(attempts))),
            "deliveries": statements.uuids([each.delivery_id for each in attempts]),
            "numbers": statements.int4s([each.number for each in attempts]),
            "started": statements.instants([each.started_at for each in attempts]),
            "durations": statements.int4s([each.duration_ms for each in attempts]),
            "outcomes": statements.texts([each.outcome for each in attempts]),
            "codes": statements.int4s([each.status_code or 0 for each in attempts]),
            "addresses": statements.texts([each.address for each in attempts]),
            "heads": statements.texts([each.head for each in attempts]),
        },
    )
    transactions.on_commit(partial(_count, [each.outcome for each in attempts]))


def _count(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        _ATTEMPTS.add(outcome=str(outcome))


def _move(
    lane: WebhookLane, standing: Standing, attempts: Sequence[Attempt], *, now: datetime
) -> None:
    """Move each delivery that is still pending; one that was set aside or canceled stays so."""
    by_delivery = {attempt.delivery_id: attempt for attempt in attempts}
    moved = [
        _settled(row, by_delivery[row.id], database_now=standing.database_now)
        for row in standing.pending
    ]
    if not moved:
        return
    told = _tell_exhausted(
        lane, [each for each in moved if each.status == DeliveryStatus.FAILED], now=now
    )
    statements.send(
        _MOVE,
        {
            "org": lane.organization_id,
            "now": now,
            "ids": statements.uuids([each.id for each in moved]),
            "statuses": statements.texts([each.status for each in moved]),
            "attempts": statements.int4s([each.attempts for each in moved]),
            "outcomes": statements.texts([each.attempt.outcome for each in moved]),
            "codes": statements.int4s([each.attempt.status_code or 0 for each in moved]),
            "delays": statements.int8s([round(1e6 * each.delay_seconds) for each in moved]),
            "sequences": statements.int4s(
                [told.get(each.id, each.event_sequence) for each in moved]
            ),
        },
    )


def _settled(row: Pending, attempt: Attempt, *, database_now: datetime) -> _Moved:
    attempts, delay = row.attempts + 1, None
    status = DeliveryStatus.SUCCEEDED
    if not attempt.succeeded:
        delay = retries.next_delay_seconds(
            attempts=attempts,
            outcome=attempt.outcome,
            retry_after=attempt.retry_after,
            now=database_now,
        )
        status = DeliveryStatus.FAILED if delay is None else DeliveryStatus.PENDING
    return _Moved(
        id=row.id,
        attempt=attempt,
        attempts=attempts,
        event_sequence=row.event_sequence,
        status=status,
        delay_seconds=delay or 0.0,
    )


def _tell_exhausted(
    lane: WebhookLane, failed: Sequence[_Moved], *, now: datetime
) -> dict[UUID, int]:
    """
    Publish that no attempt is left; return the place of each such event among its delivery's.

    The event that was not delivered is what led to it.
    """
    if not failed:
        return {}
    by_id = {each.id: each for each in failed}
    rows = queries.lock_deliveries(organization_id=lane.organization_id, delivery_ids=by_id.keys())
    told = [row for row in rows if not subscriptions.is_operational(row.event_type)]
    traces = queries.list_traces(
        organization_id=lane.organization_id, event_ids=[row.event_id for row in told]
    )
    for row in told:
        moved = by_id[row.id]
        row.attempts, row.last_outcome = moved.attempts, moved.attempt.outcome
        row.event_sequence += 1
        with context.because_of(context.Cause(row.event_id, traces.get(row.event_id, ""))):
            outbox.publish(events.DeliveryExhausted.of(row, now=now), actor=ACTOR, now=now)
    return {row.id: row.event_sequence for row in told}


def _recorded(
    standing: Standing,
    attempts: Sequence[Attempt],
    before: Health,
    after: Health,
    *,
    now: datetime,
) -> Recorded:
    is_slow = retries.is_slow(standing.durations_ms, was_slow=standing.is_slow)
    since = after.first_failure_at
    return Recorded(
        is_held=True,
        is_gone=any(each.outcome is Outcome.GONE for each in attempts),
        is_failing=since is not None and now - since > retries.DISABLE_AFTER,
        is_circuit_open=after.circuit_open_until is not None,
        is_circuit_closed=before.circuit_open_until is not None
        and after.circuit_open_until is None,
        moves_to_slow=is_slow if is_slow != standing.is_slow else None,
    )
