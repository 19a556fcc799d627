"""Endpoints: made, changed, given a new secret, tried, taken away."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from apps.accounts import queries as accounts
from apps.core import audit, encryption, idempotency, outbox, transactions
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.webhooks import events, queries
from apps.webhooks.errors import (
    EndpointDisabled,
    EndpointLimitReached,
    SecretLimitReached,
    UnknownApiVersion,
)
from apps.webhooks.models import LANES_DEFAULT, WebhookEndpoint, WebhookSecret
from apps.webhooks.operations import _changes, _reading, _shared, _telling
from apps.webhooks.operations._health import set_health
from apps.webhooks.rules import rendering, signing, subscriptions, targets
from apps.webhooks.rules.retries import Health
from apps.webhooks.states import EndpointStatus, Ordering

ENDPOINTS_MAX: Final = 16
SECRETS_MAX: Final = 3
OVERLAP_SECONDS_DEFAULT: Final = 86_400
# Where to, in what order and on how many lanes is sent.
_HOLDERS_GO_BY: Final = frozenset({"url", "ordering", "max_in_flight"})
SECRET_COLUMN: Final = "webhooks_webhooksecret.sealed"  # noqa: S105  (a column's name)


@dataclass(frozen=True, kw_only=True)
class EndpointTerms:
    """What an organization asks of an endpoint."""

    url: str
    event_types: Sequence[str]
    api_version: str = rendering.VERSIONS[0]
    description: str = ""
    ordering: str = Ordering.NONE
    max_in_flight: int = LANES_DEFAULT


@transactions.outermost
def create_endpoint(
    *,
    organization_id: UUID,
    terms: EndpointTerms,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> tuple[WebhookEndpoint, str | None]:
    """
    Make an endpoint with its first secret; the caller has checked where the URL leads.

    The secret is given out once: replaying the key returns the endpoint as it is now, and None.

    :raises UrlRefused: if the URL is not one that webhooks are sent to
    :raises UnknownEventType: if a subscription can never match
    :raises UnknownApiVersion: if events are not written in that version
    :raises SubscriptionNotPermitted: if the key may not read all it subscribes to
    :raises EndpointLimitReached: if the organization has 16 already
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "create_endpoint",
        *(terms.url, list(terms.event_types), terms.api_version, terms.description),
        *(str(terms.ordering), terms.max_in_flight),
        prefix="whe",
    )
    if claim.replayed:
        found = queries.get_endpoint(organization_id=organization_id, endpoint_id=claim.resource_id)
        return found, None
    _reading.require_types(terms.event_types, organization_id=organization_id, actor=actor)
    # The locks make two creations at the limit wait for each other; the count is read after them.
    queries.lock_endpoints(organization_id=organization_id)
    if queries.list_endpoints(organization_id=organization_id).count() >= ENDPOINTS_MAX:
        raise EndpointLimitReached(
            "This organization has as many endpoints as it may.", limit=ENDPOINTS_MAX
        )
    checked = _checked(
        {"url": terms.url, "event_types": terms.event_types, "api_version": terms.api_version}
    )
    endpoint = WebhookEndpoint(
        id=claim.resource_id,
        organization_id=organization_id,
        description=terms.description,
        ordering=terms.ordering,
        max_in_flight=terms.max_in_flight,
        lanes=terms.max_in_flight,
        event_sequence=1,
        **checked,
    )
    endpoint.save(force_insert=True)
    _shared.add_lanes(endpoint=endpoint)
    secret = _add_secret(endpoint, id_=new_id(), now=now)
    audit.record("webhooks.create_endpoint", endpoint, actor=actor, after=_masked(_terms(endpoint)))
    outbox.publish(events.EndpointCreated.of(endpoint, now=now), actor=actor, now=now)
    return endpoint, secret


@transactions.outermost
def update_endpoint(
    *,
    organization_id: UUID,
    endpoint_id: UUID,
    changes: Mapping[str, Any],
    actor: Actor,
    now: datetime,
) -> WebhookEndpoint:
    """
    Change what `changes` names: url, description, event_types, api_version, ordering,
    max_in_flight. What is already owed keeps the version it was rendered in. Of another URL the
    organization's other contacts are told.

    :raises EndpointNotFound: if the organization has no such endpoint
    :raises UrlRefused: if the new URL is not one that webhooks are sent to
    :raises UnknownEventType: if a subscription can never match
    :raises UnknownApiVersion: if events are not written in that version
    :raises SubscriptionNotPermitted: if the key may not read what the endpoint is then sent
    """
    endpoint = queries.get_endpoint_for_update(
        organization_id=organization_id, endpoint_id=endpoint_id
    )
    before = _terms(endpoint)
    checked = _checked(changes)
    _require_readable(endpoint, checked, actor=actor)
    for name, value in checked.items():
        setattr(endpoint, name, value)
    after = _terms(endpoint)
    if after == before:
        return endpoint
    endpoint.event_sequence += 1
    endpoint.save(update_fields=["event_sequence", *checked])
    _tell_lanes(endpoint, [name for name in after if after[name] != before[name]], now=now)
    is_moved = after["url"] != before["url"]
    # A new path at the same host is a change that the hosts do not show.
    moved = {"url": "changed"} if is_moved else {}
    audit.record(
        "webhooks.update_endpoint",
        endpoint,
        actor=actor,
        before=_masked(before),
        after=_masked(after) | moved,
    )
    if is_moved:
        _telling.tell_moved(endpoint, from_url=before["url"], actor=actor, now=now)
    outbox.publish(events.EndpointUpdated.of(endpoint, now=now), actor=actor, now=now)
    return endpoint


@transactions.outermost
def delete_endpoint(
    *, organization_id: UUID, endpoint_id: UUID, actor: Actor, now: datetime
) -> None:
    """
    Take an endpoint away: what is open is canceled, its secrets end, its history stays.

    Of much that is open a part is canceled by a worker afterwards; it is not sent meanwhile.

    :raises EndpointNotFound: if the organization has no such endpoint
    """
    endpoint = queries.get_endpoint_for_update(
        organization_id=organization_id, endpoint_id=endpoint_id
    )
    lanes = queries.lock_lanes(organization_id=organization_id, endpoint_ids=[endpoint_id])
    endpoint.status = EndpointStatus.DELETED
    endpoint.revision += 1
    endpoint.save(update_fields=["status", "revision"])
    _changes.begin_change(endpoint=endpoint, lanes=lanes, now=now)
    for secret in queries.list_signing_secrets(
        organization_id=organization_id, endpoint_id=endpoint_id, now=now
    ):
        secret.expires_at = now
        secret.save(update_fields=["expires_at"])
    audit.record(
        "webhooks.delete_endpoint", endpoint, actor=actor, before=_masked(_terms(endpoint))
    )


@transactions.outermost
def rotate_secret(
    *,
    organization_id: UUID,
    endpoint_id: UUID,
    overlap_seconds: int,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> tuple[WebhookEndpoint, str | None]:
    """
    Give the endpoint a new secret; the one before signs beside it for `overlap_seconds` more.

    The secret is given out once: replaying the key returns the endpoint and None.

    :raises EndpointNotFound: if the organization has no such endpoint
    :raises SubscriptionNotPermitted: if the key may not read what would be signed
    :raises SecretLimitReached: if more than three would sign at once
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "rotate_secret",
        endpoint_id,
        overlap_seconds,
        prefix="whe",
        acts_on=endpoint_id,
    )
    endpoint = queries.get_endpoint_for_update(
        organization_id=organization_id, endpoint_id=endpoint_id
    )
    if claim.replayed:
        return endpoint, None
    _reading.require_endpoint(endpoint, actor=actor)
    signing_now = queries.list_signing_secrets(
        organization_id=organization_id, endpoint_id=endpoint_id, now=now
    )
    ending = now + timedelta(seconds=overlap_seconds)
    remaining = [each for each in signing_now if overlap_seconds or each.expires_at is not None]
    if len(remaining) >= SECRETS_MAX:
        raise SecretLimitReached("Wait until an older secret has expired.", limit=SECRETS_MAX)
    for secret in signing_now:
        if secret.expires_at is None:
            secret.expires_at = ending
            secret.save(update_fields=["expires_at"])
    text = _add_secret(endpoint, id_=new_id(), now=now)
    endpoint.revision += 1
    endpoint.save(update_fields=["revision"])
    audit.record(
        "webhooks.rotate_secret",
        endpoint,
        actor=actor,
        after={"overlap_seconds": overlap_seconds, "signing": len(remaining) + 1},
    )
    return endpoint, text


@transactions.outermost
def ping_endpoint(
    *,
    organization_id: UUID,
    endpoint_id: UUID,
    reason: str = "",
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> WebhookEndpoint:
    """
    Send the endpoint a `webhook.ping`, whatever it is subscribed to. A replay sends no second one.

    :raises CapabilityMissing: if the actor is staff who may not
    :raises EndpointNotFound: if the organization has no such endpoint
    :raises EndpointDisabled: if the endpoint is off
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "ping_endpoint",
        endpoint_id,
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
    if endpoint.status != EndpointStatus.ENABLED:
        raise EndpointDisabled("This endpoint is disabled.", reason=endpoint.disabled_reason)
    endpoint.event_sequence += 1
    endpoint.save(update_fields=["event_sequence"])
    audit.record("webhooks.ping_endpoint", endpoint, actor=actor, reason=reason)
    outbox.publish(events.EndpointPinged.of(endpoint, now=now), actor=actor, now=now)
    return endpoint


def _checked(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields to store: the URL rebuilt from its parts, the rest as it was given."""
    checked = dict(changes)
    if "url" in checked:
        checked["url"] = targets.parse_url(checked["url"], policy=queries.get_policy()).url
    if "event_types" in checked:
        wanted = sorted(set(checked["event_types"]))
        subscriptions.check_event_types(wanted, known=queries.list_public_event_types())
        checked["event_types"] = wanted
    if checked.get("api_version", rendering.VERSIONS[0]) not in rendering.VERSIONS:
        raise UnknownApiVersion(
            "Events are not written in this version.", versions=list(rendering.VERSIONS)
        )
    return checked


def _require_readable(
    endpoint: WebhookEndpoint, checked: Mapping[str, Any], *, actor: Actor
) -> None:
    """Refuse a key that would subscribe to what it may not read, or lead that elsewhere."""
    wanted = checked.get("event_types", ())
    if checked.get("url", endpoint.url) != endpoint.url:
        _reading.require_endpoint(endpoint, actor=actor, event_types=wanted)
    else:
        _reading.require_types(wanted, organization_id=endpoint.organization_id, actor=actor)


def _masked(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Return terms as the audit trail keeps them: of the URL the host, as a path may be a token."""
    kept = {name: value for name, value in terms.items() if name != "url"}
    return {"host": urlsplit(terms["url"]).hostname} | kept


def _terms(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "url": endpoint.url,
        "description": endpoint.description,
        "event_types": list(endpoint.event_types),
        "api_version": endpoint.api_version,
        "ordering": str(endpoint.ordering),
        "max_in_flight": endpoint.max_in_flight,
    }


def _add_secret(endpoint: WebhookEndpoint, *, id_: UUID, now: datetime) -> str:
    text = signing.write_secret(os.urandom(signing.SECRET_BYTES))
    WebhookSecret.objects.create(
        id=id_,
        organization_id=endpoint.organization_id,
        endpoint=endpoint,
        sealed=encryption.seal(endpoint.organization_id, SECRET_COLUMN, id_, text),
        created_at=now,
    )
    return text


def _tell_lanes(endpoint: WebhookEndpoint, changed: Collection[str], *, now: datetime) -> None:
    """Have those who hold lanes stop and ask again, and the other lanes looked at."""
    if not _HOLDERS_GO_BY.intersection(changed):
        return
    endpoint.revision += 1
    endpoint.save(update_fields=["revision"])
    if "url" in changed:
        # How the other URL has been answering says nothing about this one.
        set_health(endpoint, Health())
    _shared.add_lanes(endpoint=endpoint)
    lanes = queries.lock_lanes(organization_id=endpoint.organization_id, endpoint_ids=[endpoint.id])
    _changes.begin_change(endpoint=endpoint, lanes=lanes, now=now)
