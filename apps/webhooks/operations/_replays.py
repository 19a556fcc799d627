"""Sending again what has ended: the same row, the same id and body, with a new budget."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Mod, Now

from apps.accounts import queries as accounts
from apps.core import audit, idempotency, transactions
from apps.core import queries as core_queries
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.webhooks import queries
from apps.webhooks.errors import (
    DeliveryNotFound,
    DeliveryStillOpen,
    EndpointDisabled,
    ReplayLimitReached,
    ReplayTooOld,
)
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookReplay
from apps.webhooks.operations import _reading, _shared
from apps.webhooks.rules import subscriptions
from apps.webhooks.states import OPEN, DeliveryStatus, EndpointStatus

REPLAY: Final = "webhooks.replay_delivery"
REACH_MAX: Final = timedelta(days=14)
# Beside what a key may ask: each replay sends something again, and one may send ten thousand.
REPLAYS_A_MINUTE_MAX: Final = 60
# Of a member of staff at one organization; all that failed since a time is one of them.
REPLAYS_BY_STAFF_AN_HOUR_MAX: Final = 10
_REPLAYED: Final = "webhooks.replay"


@transactions.outermost
def replay_delivery(
    *,
    organization_id: UUID,
    delivery_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> WebhookDelivery:
    """
    Send a delivery that has ended once more, whatever its end was.

    Asking twice within a minute sends once, also under two keys.

    :raises CapabilityMissing: if the actor is staff who may not
    :raises DeliveryNotFound: if the organization has no such delivery, or the key may not read it
    :raises EndpointNotFound: if its endpoint was deleted
    :raises EndpointDisabled: if its endpoint is off
    :raises DeliveryStillOpen: if it has not ended
    :raises ReplayLimitReached: after sixty replays of this endpoint within the minute, or ten by
        this member of staff within the hour
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "replay_delivery",
        delivery_id,
        reason,
        prefix="whd",
        acts_on=delivery_id,
    )
    accounts.require_capability(actor=actor, capability=REPLAY, organization_id=organization_id)
    found = queries.get_delivery(organization_id=organization_id, delivery_id=delivery_id)
    # Before anything is shown, since a key is the organization's and another may have asked first.
    if found.event_type in _reading.hidden_from(actor, organization_id=organization_id):
        raise DeliveryNotFound("No such webhook delivery.")
    if claim.replayed:
        return found
    endpoint = _enabled(organization_id, found.endpoint_id)
    scope = encode_id("whd", delivery_id)
    if _known(endpoint, scope=scope, now=now) is None:
        _refuse_too_many(endpoint, actor=actor, now=now)
        lanes = queries.lock_lanes(organization_id=organization_id, endpoint_ids=[endpoint.id])
        row = _locked(organization_id, delivery_id)
        if row.status in OPEN:
            raise DeliveryStillOpen("This delivery has not ended yet.", status=row.status)
        _send_again([row], endpoint=endpoint)
        lane = subscriptions.lane_of(row.lane_key, lanes=endpoint.lanes)
        _shared.wake(
            organization_id=organization_id, lanes=[each for each in lanes if each.lane == lane]
        )
        _keep(new_id(), endpoint, scope, 1, reason=reason, actor=actor, now=now)
    return queries.get_delivery(organization_id=organization_id, delivery_id=delivery_id)


@transactions.outermost
def replay_failed(
    *,
    organization_id: UUID,
    endpoint_id: UUID,
    since: datetime,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> WebhookReplay:
    """
    Send all that failed for good and was created at `since` or later, at most 10 000.

    Asking twice within a minute returns the first replay, also for whoever repeats the second.

    :raises CapabilityMissing: if the actor is staff who may not
    :raises EndpointNotFound: if the organization has no such endpoint
    :raises EndpointDisabled: if the endpoint is off
    :raises SubscriptionNotPermitted: if the key may not read all that would be sent
    :raises ReplayTooOld: if `since` is more than 14 days ago
    :raises ReplayLimitReached: after sixty replays of this endpoint within the minute, or ten by
        this member of staff within the hour
    """
    claim = idempotency.claim(
        organization_id, idempotency_key, "replay_failed", endpoint_id, since, reason, prefix="whr"
    )
    accounts.require_capability(actor=actor, capability=REPLAY, organization_id=organization_id)
    if claim.replayed:
        return queries.get_replay(organization_id=organization_id, replay_id=claim.resource_id)
    endpoint = _enabled(organization_id, endpoint_id)
    _reading.require_endpoint(endpoint, actor=actor)
    if since < now - REACH_MAX:
        raise ReplayTooOld("A replay reaches back 14 days.", days=REACH_MAX.days)
    scope = f"failed since {since.isoformat()}"
    known = _known(endpoint, scope=scope, now=now)
    if known is not None:
        idempotency.answer_with(organization_id, idempotency_key, known.id)
        return known
    _refuse_too_many(endpoint, actor=actor, now=now)
    lanes = queries.lock_lanes(organization_id=organization_id, endpoint_ids=[endpoint.id])
    rows = queries.lock_failed_since(
        organization_id=organization_id, endpoint_id=endpoint_id, since=since
    )
    # What failed may be of a subscription that was given up since.
    hidden = _reading.hidden_from(actor, organization_id=organization_id)
    subscriptions.check_readable([row.event_type for row in rows], hidden=hidden)
    _send_again(rows, endpoint=endpoint)
    _shared.wake(organization_id=organization_id, lanes=lanes)
    return _keep(claim.resource_id, endpoint, scope, len(rows), reason=reason, actor=actor, now=now)


def _locked(organization_id: UUID, delivery_id: UUID) -> WebhookDelivery:
    rows = queries.lock_deliveries(organization_id=organization_id, delivery_ids=[delivery_id])
    if not rows:
        # It had its time, and went while this waited for its lock.
        raise DeliveryNotFound("No such webhook delivery.")
    return rows[0]


def _enabled(organization_id: UUID, endpoint_id: UUID) -> WebhookEndpoint:
    # The lock makes two clicks wait for each other, so that the second finds the first.
    endpoint = queries.get_endpoint_for_update(
        organization_id=organization_id, endpoint_id=endpoint_id
    )
    if endpoint.status != EndpointStatus.ENABLED:
        raise EndpointDisabled("This endpoint is disabled.", reason=endpoint.disabled_reason)
    return endpoint


def _known(endpoint: WebhookEndpoint, *, scope: str, now: datetime) -> WebhookReplay | None:
    return WebhookReplay.objects.filter(
        organization_id=endpoint.organization_id,
        endpoint_id=endpoint.id,
        scope=scope,
        minute=_minute(now),
    ).first()


def _refuse_too_many(endpoint: WebhookEndpoint, *, actor: Actor, now: datetime) -> None:
    # Under the endpoint's lock, so that replays at once are counted one after the other.
    made = WebhookReplay.objects.filter(
        organization_id=endpoint.organization_id, endpoint_id=endpoint.id, minute=_minute(now)
    ).count()
    if made >= REPLAYS_A_MINUTE_MAX:
        raise ReplayLimitReached(
            "This endpoint was replayed often enough for this minute.",
            limit=REPLAYS_A_MINUTE_MAX,
            retry_after=60 - now.second,
        )
    if actor.kind == "staff":
        _refuse_too_many_by(actor, organization_id=endpoint.organization_id, now=now)


def _refuse_too_many_by(actor: Actor, *, organization_id: UUID, now: datetime) -> None:
    hour = timedelta(hours=1)
    made_at = core_queries.list_acts_since(
        organization_id=organization_id,
        actor=actor,
        act=_REPLAYED,
        since=now - hour,
        limit=REPLAYS_BY_STAFF_AN_HOUR_MAX,
    )
    if len(made_at) >= REPLAYS_BY_STAFF_AN_HOUR_MAX:
        raise ReplayLimitReached(
            "You have replayed often enough for this hour.",
            limit=REPLAYS_BY_STAFF_AN_HOUR_MAX,
            retry_after=max(1, math.ceil((made_at[-1] + hour - now).total_seconds())),
        )


def _send_again(rows: Sequence[WebhookDelivery], *, endpoint: WebhookEndpoint) -> None:
    WebhookDelivery.objects.filter(
        organization_id=endpoint.organization_id, id__in=[row.id for row in rows]
    ).update(
        status=DeliveryStatus.PENDING,
        attempts=0,
        next_attempt_at=Now(),
        closed_at=None,
        # The endpoint may have had another number of lanes when this was closed.
        lane=Mod(F("lane_key"), endpoint.lanes),
    )


def _keep(
    id_: UUID,
    endpoint: WebhookEndpoint,
    scope: str,
    count: int,
    *,
    reason: str,
    actor: Actor,
    now: datetime,
) -> WebhookReplay:
    audit.record(
        _REPLAYED, endpoint, actor=actor, reason=reason, after={"scope": scope, "n": count}
    )
    return WebhookReplay.objects.create(
        id=id_,
        organization_id=endpoint.organization_id,
        endpoint=endpoint,
        scope=scope,
        minute=_minute(now),
        delivery_count=count,
        reason=reason,
        requested_by=str(actor),
        created_at=now,
    )


def _minute(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0)
