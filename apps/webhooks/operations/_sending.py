"""
Round the POST: what a lane's holder is to send, and what came of it.

Locks are taken in one order, endpoint, lane, deliveries; the endpoint's only where something about
it changes, so that healthy lanes do not wait for each other.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import structlog
from django.db import connection
from django.db.models import Value
from django.db.models.functions import Greatest, Now

from apps.core import context, counters, encryption, failpoints, outbox, transactions, work
from apps.core.errors import InvariantBroken
from apps.core.failpoints import Failpoint
from apps.core.ids import encode_id
from apps.webhooks import events, queries
from apps.webhooks.errors import EndpointNotFound
from apps.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookLane
from apps.webhooks.operations import _shared
from apps.webhooks.operations._endpoints import SECRET_COLUMN
from apps.webhooks.operations._health import health_of, set_health
from apps.webhooks.operations._switching import ACTOR
from apps.webhooks.rules import retries, subscriptions
from apps.webhooks.rules.retries import Attempt, Health, Outcome
from apps.webhooks.states import DeliveryStatus, EndpointStatus

log = structlog.stdlib.get_logger("kassa.webhooks")

PROBE_SECONDS: Final = 60
# How long a lane rests before it looks again whether those of the number before were let go.
RESPREAD_SECONDS: Final = 1
# How long a lane rests after a turn that met a fault of ours.
FAULT_SECONDS: Final = 60
_ATTEMPTS: Final = counters.Counter(
    "kassa_webhook_attempts_total",
    "Attempts to deliver a webhook.",
    ("outcome",),
)


@dataclass(frozen=True, kw_only=True)
class Owed:
    """One delivery to be sent now."""

    delivery_id: UUID
    message_id: str
    number: int
    body: bytes
    traceparent: str = ""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The endpoint's revision and circuit as they were when somebody was told what to send."""

    revision: int = 0
    circuit_openings: int = 0


@dataclass(frozen=True, kw_only=True)
class LaneWork:
    """
    What a lane's holder sends, where to, and under which secrets; `is_all` if no more is due.

    What is due and cannot be sent is in `unsendable`, as attempts that have ended already.
    """

    database_now: datetime
    asked_at: float = field(default_factory=time.monotonic)
    seen: Seen
    url: str
    secrets: tuple[str, ...]
    owed: tuple[Owed, ...]
    unsendable: tuple[Attempt, ...]
    is_all: bool

    def now(self) -> datetime:
        """
        Return the time by the database's clock, by which messages are signed.

        A receiver refuses what is five minutes off, and a worker's own clock may be.
        """
        return self.database_now + timedelta(seconds=time.monotonic() - self.asked_at)


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


@transactions.outermost
def open_lane(*, lane: WebhookLane, limit: int, now: datetime) -> LaneWork | None:
    """
    Return what this lane is to send now, at most `limit`; or let it go and return None.

    While the circuit is open nothing is sent; once it has run out, one lane sends one probe. While
    the number of lanes is to change, none is opened until those that are held were let go.

    :raises InvariantBroken: if the endpoint has no secret, or one that does not open
    """
    endpoint = _find_endpoint(lane)
    held = _lock(lane)
    if held is None:
        return None
    if endpoint is None or endpoint.status != EndpointStatus.ENABLED:
        _set_aside(held, endpoint, now=now)
        return None
    not_before = _rests_until(endpoint)
    if not_before is not None:
        _release(held, not_before=not_before)
        return None
    if endpoint.circuit_open_until:
        limit = 1
    due = queries.list_due_deliveries(lane=held, limit=limit)
    if not due:
        _release(held)
        return None
    owed = _lane_work(endpoint, due, is_all=len(due) < limit, now=now)
    if endpoint.circuit_open_until and owed.owed:
        # Half open: the others wait for this lane's probe, or for its holder to be given up.
        waiting = owed.database_now + timedelta(seconds=PROBE_SECONDS)
        set_health(endpoint, replace(health_of(endpoint), circuit_open_until=waiting))
    return owed


@transactions.outermost
def record_attempts(
    *, lane: WebhookLane, seen: Seen, attempts: Sequence[Attempt], is_last: bool, now: datetime
) -> Recorded:
    """
    Store what became of a lane's attempts, and let the lane go if these were the last.

    Who lost the lease stores the attempts as facts and leaves every state alone. What was sent to
    an endpoint that was changed since says nothing about what it is now.
    """
    endpoint = queries.get_endpoint_any(
        organization_id=lane.organization_id, endpoint_id=lane.endpoint_id
    )
    if health_of(endpoint) != Health() or not all(each.succeeded for each in attempts):
        endpoint = queries.get_endpoint_any_for_update(
            organization_id=lane.organization_id, endpoint_id=lane.endpoint_id
        )
    held = _lock(lane)
    _append(lane, attempts)
    failpoints.reach(Failpoint.WEBHOOKS_RECORDING)
    if held is None:
        log.info("webhook_lane_lost", lane_id=str(lane.id), attempts=len(attempts))
        return Recorded(is_held=False)
    is_out_of_date = endpoint.revision != seen.revision
    before = health_of(endpoint)
    after = before
    database_now = queries.get_database_time()
    for attempt in [] if is_out_of_date else attempts:
        after = retries.after_attempt(
            after, attempt, circuit_openings=seen.circuit_openings, database_now=database_now
        )
    set_health(endpoint, after)
    _move_deliveries(held, attempts, now=now, database_now=database_now)
    if is_last:
        _release(held, not_before=after.circuit_open_until)
    if is_out_of_date:
        return Recorded(is_held=True, is_out_of_date=True)
    return _recorded(held, attempts, before, after, now=now)


@transactions.outermost
def put_lane_off(*, lane: WebhookLane) -> None:
    """
    Let a lane go whose turn met a fault of ours; it is due again in a minute.

    Its lease does not lapse, so it is never set aside for that, and comes back by itself.
    """
    held = _lock(lane)
    if held is not None:
        work.mark_retry(held, error_code="turn_failed", delay_seconds=FAULT_SECONDS)


def _find_endpoint(lane: WebhookLane) -> WebhookEndpoint | None:
    """Return the lane's endpoint if it is there; locked, if something about it is to be decided."""
    key = {"organization_id": lane.organization_id, "endpoint_id": lane.endpoint_id}
    try:
        endpoint = queries.get_endpoint(**key)
        is_steady = endpoint.lanes == endpoint.max_in_flight and not endpoint.circuit_open_until
        if is_steady and endpoint.status == EndpointStatus.ENABLED:
            return endpoint
        endpoint = queries.get_endpoint_for_update(**key)
    except EndpointNotFound:
        return None
    if endpoint.lanes != endpoint.max_in_flight:
        lanes = queries.lock_lanes(
            organization_id=lane.organization_id, endpoint_ids=[lane.endpoint_id]
        )
        _shared.spread(endpoint=endpoint, lanes=lanes, lease_token=lane.lease_token)
    return endpoint


def _rests_until(endpoint: WebhookEndpoint) -> datetime | None:
    """Return until when nothing is begun at the endpoint, or None; by no worker's own clock."""
    if endpoint.lanes == endpoint.max_in_flight and not endpoint.circuit_open_until:
        return None
    # Workers that disagree about the time would probe early, or never.
    database_now = queries.get_database_time()
    if endpoint.lanes != endpoint.max_in_flight:
        return database_now + timedelta(seconds=RESPREAD_SECONDS)
    is_open = endpoint.circuit_open_until and endpoint.circuit_open_until > database_now
    return endpoint.circuit_open_until if is_open else None


def _lock(lane: WebhookLane) -> WebhookLane | None:
    return work.lock_leased(
        WebhookLane,
        organization_id=lane.organization_id,
        row_id=lane.id,
        lease_token=lane.lease_token,
    )


def _lane_work(
    endpoint: WebhookEndpoint, due: Sequence[WebhookDelivery], *, is_all: bool, now: datetime
) -> LaneWork:
    bodies: dict[tuple[UUID, str], queries.Body] = {}
    for version in {delivery.api_version for delivery in due}:
        found = queries.get_bodies(
            organization_id=endpoint.organization_id,
            event_ids=[each.event_id for each in due if each.api_version == version],
            api_version=version,
        )
        bodies |= {(event_id, version): body for event_id, body in found.items()}
    bare = [each for each in due if (each.event_id, each.api_version) not in bodies]
    if bare:
        log.error("webhook_body_missing", delivery_ids=[str(each.id) for each in bare])
    return LaneWork(
        database_now=queries.get_database_time(),
        is_all=is_all,
        seen=Seen(revision=endpoint.revision, circuit_openings=endpoint.circuit_openings),
        url=endpoint.url,
        secrets=_secrets(endpoint, now=now),
        owed=tuple(
            Owed(
                delivery_id=each.id,
                message_id=encode_id("evt", each.event_id),
                number=each.attempts_made + 1,
                body=bodies[each.event_id, each.api_version].content,
                traceparent=bodies[each.event_id, each.api_version].traceparent,
            )
            for each in due
            if each not in bare
        ),
        unsendable=tuple(
            retries.ended_here(
                delivery_id=each.id,
                number=each.attempts_made + 1,
                outcome=Outcome.NO_BODY,
                now=now,
            )
            for each in bare
        ),
    )


def _secrets(endpoint: WebhookEndpoint, *, now: datetime) -> tuple[str, ...]:
    rows = queries.list_signing_secrets(
        organization_id=endpoint.organization_id, endpoint_id=endpoint.id, now=now
    )
    # Every one signs: the receiver may know the one alone that would be left out.
    if not rows:
        msg = f"Endpoint {endpoint.id} has no secret to sign with."
        raise InvariantBroken(msg)
    return tuple(
        encryption.unseal(each.organization_id, SECRET_COLUMN, each.id, bytes(each.sealed))
        for each in rows
    )


def _set_aside(lane: WebhookLane, endpoint: WebhookEndpoint | None, *, now: datetime) -> None:
    """Empty the lane of an endpoint that was switched off or taken away meanwhile."""
    rows = WebhookDelivery.objects.filter(
        organization_id=lane.organization_id,
        endpoint_id=lane.endpoint_id,
        lane=lane.lane,
        status=DeliveryStatus.PENDING,
    )
    if endpoint is None:
        rows.update(status=DeliveryStatus.CANCELED, closed_at=now)
    else:
        rows.update(status=DeliveryStatus.PAUSED)
    work.mark_done(lane)


def _release(lane: WebhookLane, *, not_before: datetime | None = None) -> None:
    """
    Let the locked lane go until its next delivery falls due; if one is, behind all due lanes.

    The lane's lock was taken by an earlier statement; only this one reads what is due, so that a
    delivery committed in between is seen.
    """
    due = queries.find_next_due(lane=lane)
    if due is None:
        work.mark_done(lane)
        return
    lane.state, lane.lapses, lane.last_error_code = work.WorkState.PENDING, 0, ""
    lane.lease_until = lane.lease_token = None
    # Never earlier than now: a backlog's oldest delivery would put its lane before all others
    # again and again, while theirs wait.
    lane.next_attempt_at = Greatest(Value(max(due, not_before or due)), Now())
    lane.attempts = 0
    lane.save(update_fields=["attempts", *work.RECORDED_FIELDS])


def _append(lane: WebhookLane, attempts: Sequence[Attempt]) -> None:
    WebhookAttempt.objects.bulk_create(
        WebhookAttempt(
            organization_id=lane.organization_id,
            delivery_id=each.delivery_id,
            endpoint_id=lane.endpoint_id,
            number=each.number,
            started_at=each.started_at,
            duration_ms=each.duration_ms,
            outcome=each.outcome,
            status_code=each.status_code,
            address=each.address,
            answer_head=each.head,
        )
        for each in attempts
    )
    transactions.on_commit(partial(_count, [each.outcome for each in attempts]))


def _count(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        _ATTEMPTS.add(outcome=str(outcome))


# One statement for all; a retry's delay is added to the database's clock.
_MOVE: Final = """
    UPDATE webhooks_webhookdelivery AS delivery
       SET status = moved.status, attempts = moved.attempts,
           attempts_made = delivery.attempts_made + 1,
           last_outcome = moved.outcome, last_status_code = moved.status_code,
           next_attempt_at = CASE WHEN moved.status = 'pending'
                                  THEN clock_timestamp() + make_interval(secs => moved.delay)
                                  ELSE delivery.next_attempt_at END,
           closed_at = CASE WHEN moved.status = 'pending' THEN NULL ELSE %(now)s END,
           event_sequence = moved.event_sequence
      FROM unnest(%(ids)s::uuid[], %(statuses)s::text[], %(attempts)s::int[], %(outcomes)s::text[],
                  %(codes)s::int[], %(delays)s::float8[], %(sequences)s::int[])
           AS moved(id, status, attempts, outcome, status_code, delay, event_sequence)
     WHERE delivery.organization_id = %(organization)s AND delivery.id = moved.id
"""


def _move_deliveries(
    lane: WebhookLane, attempts: Sequence[Attempt], *, now: datetime, database_now: datetime
) -> None:
    """Move each delivery that is still pending; one that was set aside or canceled stays so."""
    by_delivery = {attempt.delivery_id: attempt for attempt in attempts}
    rows = queries.lock_deliveries(
        organization_id=lane.organization_id, delivery_ids=by_delivery.keys()
    )
    moved = [
        (row, _settle(row, by_delivery[row.id], database_now=database_now))
        for row in rows
        if row.status == DeliveryStatus.PENDING
    ]
    _tell_exhausted([row for row, _ in moved if row.status == DeliveryStatus.FAILED], now=now)
    if not moved:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _MOVE,
            {
                "organization": lane.organization_id,
                "now": now,
                "ids": [row.id for row, _ in moved],
                "statuses": [str(row.status) for row, _ in moved],
                "attempts": [row.attempts for row, _ in moved],
                "outcomes": [str(row.last_outcome) for row, _ in moved],
                "codes": [row.last_status_code for row, _ in moved],
                "delays": [delay for _, delay in moved],
                "sequences": [row.event_sequence for row, _ in moved],
            },
        )


def _tell_exhausted(rows: Sequence[WebhookDelivery], *, now: datetime) -> None:
    """Publish that no attempt is left; the event that was not delivered is what led to it."""
    told = [row for row in rows if not subscriptions.is_operational(row.event_type)]
    if not told:
        return
    traces = queries.list_traces(
        organization_id=told[0].organization_id, event_ids=[row.event_id for row in told]
    )
    for row in told:
        row.event_sequence += 1
        with context.because_of(context.Cause(row.event_id, traces.get(row.event_id, ""))):
            outbox.publish(events.DeliveryExhausted.of(row, now=now), actor=ACTOR, now=now)


def _settle(row: WebhookDelivery, attempt: Attempt, *, database_now: datetime) -> float:
    """Set the row to what the attempt makes of it; return the delay before the next one."""
    row.attempts += 1
    row.last_outcome, row.last_status_code = attempt.outcome, attempt.status_code
    if attempt.succeeded:
        row.status = DeliveryStatus.SUCCEEDED
        return 0.0
    delay = retries.next_delay_seconds(
        attempts=row.attempts,
        outcome=attempt.outcome,
        retry_after=attempt.retry_after,
        now=database_now,
    )
    if delay is None:
        row.status = DeliveryStatus.FAILED
    return delay or 0.0


def _recorded(
    lane: WebhookLane, attempts: Sequence[Attempt], before: Health, after: Health, *, now: datetime
) -> Recorded:
    durations = queries.list_recent_durations_ms(
        organization_id=lane.organization_id, endpoint_id=lane.endpoint_id
    )
    is_slow = retries.is_slow(durations, was_slow=lane.is_slow)
    since = after.first_failure_at
    return Recorded(
        is_held=True,
        is_gone=any(each.outcome is Outcome.GONE for each in attempts),
        is_failing=since is not None and now - since > retries.DISABLE_AFTER,
        is_circuit_open=after.circuit_open_until is not None,
        is_circuit_closed=before.circuit_open_until is not None
        and after.circuit_open_until is None,
        moves_to_slow=is_slow if is_slow != lane.is_slow else None,
    )
