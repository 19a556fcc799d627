"""Connections to providers: made, given a new secret, and asked whether a message is genuine."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import connection as database

from apps.core import audit, encryption, idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.webhooks import queries, registry
from apps.webhooks.errors import SecretLimitReached, SecretMalformed, UnknownProvider
from apps.webhooks.models import ProviderConnection, ProviderSecret
from apps.webhooks.rules import verification
from apps.webhooks.rules.verification import Envelope, Verdict

PROVIDER_SECRETS_MAX: Final = 3
PROVIDER_SECRET_COLUMN: Final = "webhooks_providersecret.sealed"  # noqa: S105  (a column's name)

_COUNT_REFUSED: Final = """
    INSERT INTO webhooks_refusedcall (id, organization_id, connection_id, day, reason, count)
    VALUES (%s, %s, %s, %s, %s, 1)
        ON CONFLICT (organization_id, connection_id, day, reason)
        DO UPDATE SET count = webhooks_refusedcall.count + 1
"""


@transactions.outermost
def add_provider_connection(
    *,
    organization_id: UUID,
    provider: str,
    name: str,
    secret: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> ProviderConnection:
    """
    Let a provider tell the organization what happens, signed with the secret that it gave out.

    Replaying the key returns the connection as it is now, whatever secret comes with it.

    :raises UnknownProvider: if we take messages of no such provider
    :raises SecretMalformed: if the secret is none
    """
    claim = idempotency.claim(
        organization_id, idempotency_key, "add_provider_connection", provider, name, prefix="pvc"
    )
    if claim.replayed:
        return queries.get_connection_for_update(
            organization_id=organization_id, connection_id=claim.resource_id
        )
    if registry.find_provider(provider) is None:
        raise UnknownProvider("There is no such provider.", provider=provider)
    made = ProviderConnection(
        id=claim.resource_id,
        organization_id=organization_id,
        provider=provider,
        name=name,
        created_at=now,
    )
    made.save(force_insert=True)
    _add_secret(made, secret, id_=new_id(), now=now)
    audit.record(
        "webhooks.add_provider_connection",
        made,
        actor=actor,
        after={"provider": provider, "name": name},
    )
    return made


@transactions.outermost
def replace_provider_secret(
    *,
    organization_id: UUID,
    connection_id: UUID,
    secret: str,
    overlap_seconds: int,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> ProviderConnection:
    """
    Believe the provider's new secret; the one before is believed `overlap_seconds` more.

    Replaying the key changes nothing, whatever secret comes with it.

    :raises ConnectionNotFound: if the organization has no such connection
    :raises SecretMalformed: if the secret is none
    :raises SecretLimitReached: if more than three would be believed at once
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "replace_provider_secret",
        connection_id,
        overlap_seconds,
        prefix="pvc",
        acts_on=connection_id,
    )
    found = queries.get_connection_for_update(
        organization_id=organization_id, connection_id=connection_id
    )
    if claim.replayed:
        return found
    believed = queries.list_provider_secrets(connection=found, now=now)
    staying = [each for each in believed if overlap_seconds or each.expires_at is not None]
    if len(staying) >= PROVIDER_SECRETS_MAX:
        raise SecretLimitReached(
            "Wait until an older secret has expired.", limit=PROVIDER_SECRETS_MAX
        )
    ProviderSecret.objects.filter(
        organization_id=organization_id, connection=found, expires_at=None
    ).update(expires_at=now + timedelta(seconds=overlap_seconds))
    _add_secret(found, secret, id_=new_id(), now=now)
    audit.record(
        "webhooks.replace_provider_secret",
        found,
        actor=actor,
        after={"overlap_seconds": overlap_seconds, "believed": len(staying) + 1},
    )
    return found


def verify_message(
    *, connection: ProviderConnection, envelope: Envelope, body: bytes, now: datetime
) -> Verdict:
    """Say whether a message bears one of the connection's secrets that have not expired."""
    unseal = encryption.unsealer(connection.organization_id)
    secrets = [
        unseal(PROVIDER_SECRET_COLUMN, each.id, bytes(each.sealed))
        for each in queries.list_provider_secrets(connection=connection, now=now)
    ]
    return verification.verify(secrets=secrets, envelope=envelope, body=body, now=now)


@transactions.outermost
def count_refused_call(*, connection: ProviderConnection, reason: str, now: datetime) -> None:
    """Count a call that was refused, by its day and reason; nothing else of it is kept."""
    with database.cursor() as cursor:
        cursor.execute(
            _COUNT_REFUSED,
            [new_id(), connection.organization_id, connection.id, now.date(), reason],
        )


def _add_secret(connection: ProviderConnection, text: str, *, id_: UUID, now: datetime) -> None:
    if not verification.is_secret(text):
        raise SecretMalformed("A secret is whsec_ and the base64 of 24 to 64 bytes.")
    ProviderSecret.objects.create(
        id=id_,
        organization_id=connection.organization_id,
        connection=connection,
        sealed=encryption.seal(connection.organization_id, PROVIDER_SECRET_COLUMN, id_, text),
        created_at=now,
    )
