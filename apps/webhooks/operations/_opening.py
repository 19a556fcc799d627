"""
Before the POST: what a lane's holder is to send, where to, and under which secrets.

Locks are taken in one order, endpoint, lane, deliveries; the endpoint's only where something about
it is to be decided, so that healthy lanes do not wait for each other.
"""

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from apps.core import clock, counters, encryption, transactions, work
from apps.core.errors import InvariantBroken
from apps.core.ids import decode_id, encode_id, made_at
from apps.webhooks import queries
from apps.webhooks.models import WebhookEndpoint, WebhookLane
from apps.webhooks.operations import _changes, _lanes
from apps.webhooks.operations._endpoints import SECRET_COLUMN
from apps.webhooks.operations._health import health_of, set_health
from apps.webhooks.queries import Opening
from apps.webhooks.rules import retries
from apps.webhooks.rules.retries import Attempt, Outcome
from apps.webhooks.states import EndpointStatus

log = structlog.stdlib.get_logger("kassa.webhooks")

PROBE_SECONDS: Final = 60
# How long a lane rests before it looks again whether its endpoint is still being changed.
CHANGING_SECONDS: Final = 1

_FIRST: Final = counters.Histogram(
    "kassa_webhook_first_attempt_seconds",
    "From an event to the beginning of the first attempt to deliver it, by how that went.",
    ("outcome",),
    (1, 5, 30, 120),
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
    asked_at: float
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


def count_first_attempt(owed: Owed, *, begun_at: datetime, outcome: Outcome) -> None:
    """Count how long an event waited for its first attempt, if this was it."""
    if owed.number == 1:
        waited = begun_at - made_at(decode_id("evt", owed.message_id))
        _FIRST.observe(max(0.0, waited.total_seconds()), outcome=str(outcome))


def open_lane(*, lane: WebhookLane, limit: int, now: datetime) -> LaneWork | None:
    """
    Return what this lane is to send now, at most `limit`; or let it go and return None.

    While the circuit is open nothing is sent; once it has run out, one lane sends one probe. While
    the endpoint is being changed no lane is opened.

    :raises InvariantBroken: if the endpoint has no secret, or one that does not open
    """
    opening = _open(lane, limit=limit, now=now)
    # With no transaction open: inside of one the key that opens a secret is read each time.
    return None if opening is None else _work(lane, opening, now=now)


@transactions.outermost
def _open(lane: WebhookLane, *, limit: int, now: datetime) -> Opening | None:
    opening = queries.open_steady_lane(lane=lane, limit=limit, now=now)
    if opening is None:
        return _open_with_care(lane, limit=limit, now=now)
    if not opening.due:
        _lanes.let_go(lane)
        return None
    return opening


def _open_with_care(lane: WebhookLane, *, limit: int, now: datetime) -> Opening | None:
    """Open a lane under the lock of its endpoint, about which something is to be decided."""
    endpoint = _lock_endpoint(lane, now=now)
    held = _lanes.lock(lane)
    if held is None:
        return None
    not_before = _rests_until(endpoint)
    if not_before is not None:
        _lanes.let_go(lane, not_before=not_before)
        return None
    if endpoint.status != EndpointStatus.ENABLED:
        work.mark_done(held)
        return None
    is_probe = endpoint.circuit_open_until is not None
    opening = queries.open_locked_lane(lane=lane, limit=1 if is_probe else limit, now=now)
    if not opening.due:
        _lanes.let_go(lane)
        return None
    if is_probe and opening.due[0].body is not None:
        # Half open: the others wait for this lane's probe, or for its holder to be given up.
        waiting = opening.database_now + timedelta(seconds=PROBE_SECONDS)
        set_health(endpoint, replace(health_of(endpoint), circuit_open_until=waiting))
    return opening


def _lock_endpoint(lane: WebhookLane, *, now: datetime) -> WebhookEndpoint:
    """Return the lane's endpoint, locked, also a deleted one."""
    endpoint = queries.get_endpoint_any_for_update(
        organization_id=lane.organization_id, endpoint_id=lane.endpoint_id
    )
    if endpoint.lanes != endpoint.max_in_flight and not endpoint.is_changing:
        # Asked for by a process of a release that left this to whoever opens a lane.
        lanes = queries.lock_lanes(
            organization_id=lane.organization_id, endpoint_ids=[lane.endpoint_id]
        )
        _changes.begin_change(endpoint=endpoint, lanes=lanes, now=now)
    return endpoint


def _rests_until(endpoint: WebhookEndpoint) -> datetime | None:
    """Return until when nothing is begun at the endpoint, or None; by no worker's own clock."""
    # Workers that disagree about the time would probe early, or never.
    database_now = clock.database_now()
    if endpoint.is_changing:
        return database_now + timedelta(seconds=CHANGING_SECONDS)
    is_on = endpoint.status == EndpointStatus.ENABLED
    is_open = endpoint.circuit_open_until and endpoint.circuit_open_until > database_now
    return endpoint.circuit_open_until if is_on and is_open else None


def _work(lane: WebhookLane, opening: Opening, *, now: datetime) -> LaneWork:
    bare = [each for each in opening.due if each.body is None]
    if bare:
        log.error("webhook_body_missing", delivery_ids=[str(each.delivery_id) for each in bare])
    return LaneWork(
        database_now=opening.database_now,
        asked_at=opening.asked_at,
        is_all=opening.is_all,
        seen=Seen(revision=opening.revision, circuit_openings=opening.circuit_openings),
        url=opening.url,
        secrets=_secrets(lane, opening),
        owed=tuple(
            Owed(
                delivery_id=each.delivery_id,
                message_id=encode_id("evt", each.event_id),
                number=each.attempts_made + 1,
                body=each.body,
                traceparent=each.traceparent,
            )
            for each in opening.due
            if each.body is not None
        ),
        unsendable=tuple(
            retries.ended_here(
                delivery_id=each.delivery_id,
                number=each.attempts_made + 1,
                outcome=Outcome.NO_BODY,
                now=now,
            )
            for each in bare
        ),
    )


def _secrets(lane: WebhookLane, opening: Opening) -> tuple[str, ...]:
    # Every one signs: the receiver may know the one alone that would be left out.
    if not opening.secrets:
        msg = f"Endpoint {lane.endpoint_id} has no secret to sign with."
        raise InvariantBroken(msg)
    return tuple(
        encryption.unseal(lane.organization_id, SECRET_COLUMN, each.id, each.content)
        for each in opening.secrets
    )
