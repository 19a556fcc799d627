"""API keys: issued once, rotated with two alive, revoked at once."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings

from apps.accounts import errors, queries, rules
from apps.accounts.models import KEY_LIFE_MAX, ApiKey
from apps.core import audit, transactions
from apps.core.actors import Actor
from apps.core.versions import NEWEST

# For how long the old key of a rotation goes on.
OVERLAP: Final = timedelta(days=7)
USE_NOTED_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key and its token, which is shown now and never again."""

    key: ApiKey
    token: str


@transactions.outermost
def create_api_key(
    *,
    organization_id: UUID,
    name: str,
    scopes: Collection[str],
    issued_by: UUID,
    expires_at: datetime | None = None,
    addresses: Collection[str] = (),
    actor: Actor,
    now: datetime,
) -> IssuedKey:
    """
    Issue a key; its mode is the organization's. Without an end it lives for 365 days, the longest.

    `issued_by` is the member of staff who stands behind what the key does.

    :raises OrganizationNotFound: if there is no such organization
    :raises MalformedApiKey: if a scope, a network or the end makes no sense
    :raises CapabilityMissing: if the actor is staff without `accounts.create_api_key`
    """
    queries.require_capability(
        actor=actor, capability="accounts.create_api_key", organization_id=organization_id
    )
    organization = queries.get_organization(organization_id=organization_id)
    issued = _issue(
        ApiKey(
            organization=organization,
            name=name,
            scopes=sorted(set(scopes)),
            addresses=_networks(addresses),
            kassa_version=NEWEST,
            issued_by_id=issued_by,
            created_at=now,
            expires_at=expires_at or now + KEY_LIFE_MAX,
        ),
        mode=organization.mode,
    )
    _record("accounts.create_api_key", issued.key, actor)
    return issued


@transactions.outermost
def rotate_api_key(
    *, organization_id: UUID, api_key_id: UUID, actor: Actor, now: datetime
) -> IssuedKey:
    """
    Issue a successor with the same rights; the old key goes on for at most seven days.

    :raises ApiKeyNotFound: if the organization has no such key
    :raises ApiKeyNotLive: if it is revoked or expired
    :raises ApiKeyHasSuccessor: if it was rotated before and its successor is live
    """
    queries.require_capability(
        actor=actor, capability="accounts.rotate_api_key", organization_id=organization_id
    )
    old = queries.get_api_key_for_update(organization_id=organization_id, api_key_id=api_key_id)
    if not rules.is_live(revoked_at=old.revoked_at, expires_at=old.expires_at, now=now):
        raise errors.ApiKeyNotLive("This key is revoked or expired.")
    # The lock on the old key makes this answer the truth until the successor is written.
    if queries.list_api_keys(organization_id=organization_id).filter(
        rotated_from=old.id, revoked_at=None, expires_at__gt=now
    ):
        raise errors.ApiKeyHasSuccessor("This key was rotated already.")
    issued = _issue(
        ApiKey(
            organization_id=organization_id,
            name=old.name,
            scopes=old.scopes,
            addresses=old.addresses,
            kassa_version=old.kassa_version,
            issued_by_id=old.issued_by_id if actor.kind != "staff" else UUID(actor.id),
            rotated_from=old.id,
            created_at=now,
            expires_at=now + KEY_LIFE_MAX,
        ),
        mode=queries.get_organization(organization_id=organization_id).mode,
    )
    old.expires_at = min(old.expires_at, now + OVERLAP)
    old.save(update_fields=["expires_at"])
    _record("accounts.rotate_api_key", issued.key, actor)
    return issued


@transactions.outermost
def revoke_api_key(
    *, organization_id: UUID, api_key_id: UUID, reason: str, actor: Actor, now: datetime
) -> ApiKey:
    """
    Revoke a key for good; every process refuses it within five seconds. Again changes nothing.

    :raises ApiKeyNotFound: if the organization has no such key
    """
    queries.require_capability(
        actor=actor, capability="accounts.revoke_api_key", organization_id=organization_id
    )
    key = queries.get_api_key_for_update(organization_id=organization_id, api_key_id=api_key_id)
    if key.revoked_at is None:
        key.revoked_at = now
        key.save(update_fields=["revoked_at"])
        _record("accounts.revoke_api_key", key, actor, reason=reason)
    return key


@transactions.outermost
def note_key_use(*, organization_id: UUID, api_key_id: UUID, now: datetime) -> None:
    """
    Note that the key was used; at most one row version a minute.

    It waits for nobody, since a request does for it: a row that is held is noted another time.
    """
    key = queries.find_idle_key_for_update(
        organization_id=organization_id, api_key_id=api_key_id, since=now - USE_NOTED_EVERY
    )
    if key is not None:
        key.last_used_at = now
        key.save(update_fields=["last_used_at"])


def _issue(key: ApiKey, *, mode: str) -> IssuedKey:
    if not key.scopes or not all(rules.is_scope(scope) for scope in key.scopes):
        raise errors.MalformedApiKey("A key has scopes such as payouts:write.")
    if not key.created_at < key.expires_at <= key.created_at + KEY_LIFE_MAX:
        raise errors.MalformedApiKey("A key ends within 365 days.")
    token = rules.make_token(
        mode=mode,
        key_id_entropy=secrets.token_bytes(rules.KEY_ID_BYTES),
        secret_entropy=secrets.token_bytes(rules.SECRET_BYTES),
    )
    key.key_id, key.last4 = token.key_id, token.last4
    key.secret_digest = rules.digest_secret(token.secret, pepper=settings.KASSA_PEPPER)
    key.save(force_insert=True)
    return IssuedKey(key, rules.print_token(token))


def _networks(addresses: Collection[str]) -> list[str]:
    networks = [rules.normal_network(address) for address in addresses]
    if None in networks:
        raise errors.MalformedApiKey("An address is an IP address or a network in CIDR form.")
    return [network for network in networks if network]


def _record(act: str, key: ApiKey, actor: Actor, *, reason: str = "") -> None:
    audit.record(
        act,
        key,
        actor=actor,
        reason=reason,
        after={
            "name": key.name,
            "last4": key.last4,
            "scopes": key.scopes,
            "addresses": key.addresses,
            "issued_by": str(key.issued_by_id),
            "expires_at": key.expires_at.isoformat(),
            "revoked": key.revoked_at is not None,
        },
    )
