"""Switching endpoints off and on: by request, on 410, or since nothing gets through."""

from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

import structlog

from apps.accounts import queries as accounts
from apps.core import audit, clock, idempotency, outbox, transactions, work
from apps.core.actors import Actor
from apps.webhooks import events, queries
from apps.webhooks.errors import EndpointChanging, EndpointDisabled, EndpointEnabled
from apps.webhooks.models import WebhookEndpoint, WebhookLane
from apps.webhooks.operations import _changes, _reading, _shared, _telling
from apps.webhooks.operations._health import health_of, set_health
from apps.webhooks.rules import retries
from apps.webhooks.rules.retries import Health
from apps.webhooks.states import DisabledReason, EndpointStatus

log = structlog.stdlib.get_logger("kassa.webhooks")

PAUSE: Final = "webhooks.pause_endpoint"
ACTOR: Final = Actor.job("webhooks")
_BEGINNING: Final = datetime.fromtimestamp(0, UTC)

type Paused = Literal["resume", "resume_since", "discard"]


@transactions.outermost
def disable_endpoint(
    *,
    organization_id: UUID,
    endpoint_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> WebhookEndpoint:
    """
    Switch an endpoint off; what is open is set aside until it is enabled, and kept.

    Replaying the key returns the endpoint as it is now.

    :raises CapabilityMissing: if the actor is staff who may not
    :raises EndpointNotFound: if the organization has no such endpoint
    :raises EndpointDisabled: if it is off already
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "disable_endpoint",
        endpoint_id,
        reason,
        prefix="whe",
        acts_on=endpoint_id,
    )
    accounts.require_capability(actor=actor, capability=PAUSE, organization_id=organization_id)
    endpoint = queries.get_endpoint_for_update(
        organization_id=organization_id, endpoint_id=endpoint_id
    )
    if claim.replayed:
        return endpoint
    if endpoint.status == EndpointStatus.DISABLED:
        raise EndpointDisabled("This endpoint is disabled.", reason=endpoint.disabled_reason)
    _switch_off(endpoint, DisabledReason.REQUESTED, reason=reason, actor=actor, now=now)
    return endpoint


@transactions.outermost
def disable_unreachable_endpoint(
    *, organization_id: UUID, endpoint_id: UUID, is_gone: bool, revision: int, now: datetime
) -> bool:
    """
    Switch an endpoint off that answered 410, or that the disable rule finds failing for good.

    Its organization's contacts are told. The rule is asked again under the lock; false if the
    endpoint stays as it is, also because it is not any more what it was at that `revision`, or was
    taken away: what an attempt leads to is a transaction of its own, after that of its record.
    """
    endpoint = queries.get_endpoint_any_for_update(
        organization_id=organization_id, endpoint_id=endpoint_id
    )
    if endpoint.status != EndpointStatus.ENABLED or endpoint.revision != revision:
        return False
    health = health_of(endpoint)
    if not is_gone:
        failed = queries.count_failed_events(
            organization_id=organization_id,
            endpoint_id=endpoint_id,
            since=health.first_failure_at or now,
            at_most=retries.DISABLE_EVENTS_MIN,
        )
        if not retries.is_failing_for_good(health, failed_events=failed, now=now):
            return False
    reason = DisabledReason.GONE if is_gone else DisabledReason.FAILING
    _switch_off(endpoint, reason, reason=reason.value, actor=ACTOR, now=now)
    failing_since = None if is_gone else health.first_failure_at
    _telling.tell_disabled(endpoint, failing_since=failing_since, actor=ACTOR, now=now)
    log.warning("webhook_endpoint_disabled", endpoint_id=str(endpoint_id), reason=reason.value)
    return True


@transactions.outermost
def enable_endpoint(
    *,
    organization_id: UUID,
    endpoint_id: UUID,
    paused: Paused,
    since: datetime | None,
    reason: str = "",
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> WebhookEndpoint:
    """
    Switch an endpoint on, with a clean record.

    What was set aside is sent (`resume`), sent if it was created at `since` or later and canceled
    otherwise (`resume_since`), or canceled (`discard`). Of much that was set aside a part is left
    to a worker, and nothing is sent before that is done.

    :raises CapabilityMissing: if the actor is staff who may not
    :raises EndpointNotFound: if the organization has no such endpoint
    :raises EndpointEnabled: if it is on already
    :raises EndpointChanging: if what it is owed is still being set aside
    :raises SubscriptionNotPermitted: if the key may not read what it is then sent
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "enable_endpoint",
        endpoint_id,
        paused,
        since,
        reason,
        prefix="whe",
        acts_on=endpoint_id,
    )
    accounts.require_capability(
        actor=actor, capability=_shared.EDIT, organization_id=organization_id
    )
    endpoint = queries.get_endpoint_for_update(
        organization_id=organization_id, endpoint_id=endpoint_id
    )
    if claim.replayed:
        return endpoint
    if endpoint.status == EndpointStatus.ENABLED:
        raise EndpointEnabled("This endpoint is enabled.")
    _reading.require_endpoint(endpoint, actor=actor)
    lanes = queries.lock_lanes(organization_id=organization_id, endpoint_ids=[endpoint_id])
    if not _changes.is_set_aside(endpoint):
        # What is open then could not be told from what is owed from now on.
        raise EndpointChanging("What this endpoint is owed is still being set aside.")
    endpoint.status, endpoint.disabled_reason = EndpointStatus.ENABLED, ""
    endpoint.resume_from = _resume_from(paused, since)
    endpoint.event_sequence += 1
    endpoint.save(update_fields=["status", "disabled_reason", "event_sequence"])
    set_health(endpoint, Health())
    _changes.begin_change(endpoint=endpoint, lanes=lanes, now=now)
    kept = {"paused": paused} | ({"since": since.isoformat()} if since else {})
    audit.record("webhooks.enable_endpoint", endpoint, actor=actor, reason=reason, after=kept)
    outbox.publish(events.EndpointEnabled.of(endpoint, now=now), actor=actor, now=now)
    return endpoint


@transactions.outermost
def move_to_queue(*, organization_id: UUID, endpoint_id: UUID, is_slow: bool) -> None:
    """Have the endpoint's lanes worked by the slow endpoints' workers, or by the usual ones."""
    # Also of one that was taken away since its attempts were recorded: its lanes are done soon.
    queries.get_endpoint_any_for_update(organization_id=organization_id, endpoint_id=endpoint_id)
    lanes = queries.lock_lanes(organization_id=organization_id, endpoint_ids=[endpoint_id])
    for lane in lanes:
        lane.is_slow = is_slow
    WebhookLane.objects.bulk_update(lanes, ["is_slow"])
    work.nudge(_shared.lane_kind(is_slow=is_slow))
    log.info("webhook_endpoint_moved", endpoint_id=str(endpoint_id), is_slow=is_slow)


@transactions.outermost
def wake_endpoint(*, organization_id: UUID, endpoint_id: UUID) -> None:
    """Have all lanes looked at now: a probe was answered, and the others were waiting for it."""
    lanes = queries.lock_lanes(organization_id=organization_id, endpoint_ids=[endpoint_id])
    _shared.wake(organization_id=organization_id, lanes=lanes)


def _resume_from(paused: Paused, since: datetime | None) -> datetime:
    """Return what the oldest delivery that is sent may be made at, by the database's clock."""
    if paused == "resume_since" and since is not None:
        return since
    # All that is set aside was made by a transaction that began before now.
    return clock.database_now() if paused == "discard" else _BEGINNING


def _switch_off(
    endpoint: WebhookEndpoint, why: DisabledReason, *, reason: str, actor: Actor, now: datetime
) -> None:
    # A lane's holder records before this or finds its deliveries set aside: the lanes' locks.
    lanes = queries.lock_lanes(organization_id=endpoint.organization_id, endpoint_ids=[endpoint.id])
    endpoint.status, endpoint.disabled_reason = EndpointStatus.DISABLED, why
    endpoint.event_sequence += 1
    endpoint.revision += 1
    endpoint.save(update_fields=["status", "disabled_reason", "event_sequence", "revision"])
    _changes.begin_change(endpoint=endpoint, lanes=lanes, now=now)
    audit.record("webhooks.disable_endpoint", endpoint, actor=actor, reason=reason)
    outbox.publish(events.EndpointDisabled.of(endpoint, now=now), actor=actor, now=now)
