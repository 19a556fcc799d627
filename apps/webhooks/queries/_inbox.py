"""What providers told us, and what it is verified by."""

from datetime import datetime
from uuid import UUID

from django.db.models import Q

from apps.core import work
from apps.webhooks.errors import ConnectionNotFound, InboundEventNotFound
from apps.webhooks.models import InboundEvent, ProviderConnection, ProviderSecret


def find_provider_connection(*, provider: str, connection_id: UUID) -> ProviderConnection | None:
    """Return the connection that a hook's URL names, whoever's it is: a call says nothing else."""
    return ProviderConnection.objects.filter(id=connection_id, provider=provider).first()


def get_connection_for_update(*, organization_id: UUID, connection_id: UUID) -> ProviderConnection:
    """
    Return one connection, locked, so that its secrets can be judged.

    :raises ConnectionNotFound: if the organization has no such connection
    """
    found = (
        ProviderConnection.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=connection_id)
        .first()
    )
    if found is None:
        raise ConnectionNotFound("No such connection to a provider.")
    return found


def list_provider_secrets(*, connection: ProviderConnection, now: datetime) -> list[ProviderSecret]:
    """Return the secrets that a message may be signed with, newest first."""
    return list(
        ProviderSecret.objects.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=now),
            organization_id=connection.organization_id,
            connection=connection,
        ).order_by("-id")
    )


def lock_waiting_events(
    *, organization_id: UUID, provider: str, object_key: str
) -> list[InboundEvent]:
    """Return the events about this object that are not worked yet, locked in one order."""
    rows = InboundEvent.objects.filter(
        organization_id=organization_id,
        provider=provider,
        object_key=object_key,
        state__in=work.OPEN,
    )
    # Their bodies may be long, and are nothing to who makes an object known.
    return list(rows.order_by("id").defer("sealed_body").select_for_update(no_key=True))


def get_inbound_event_for_update(*, organization_id: UUID, inbound_event_id: UUID) -> InboundEvent:
    """
    Return one event of a provider, locked, whoever has leased it.

    :raises InboundEventNotFound: if the organization has no such event
    """
    found = (
        InboundEvent.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=inbound_event_id)
        .first()
    )
    if found is None:
        raise InboundEventNotFound("No such event of a provider.")
    return found
