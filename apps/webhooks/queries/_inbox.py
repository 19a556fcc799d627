"""What providers told us, and what it is verified by."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from apps.core import work
from apps.webhooks.errors import ConnectionNotFound, InboundEventNotFound
from apps.webhooks.models import InboundEvent, ProviderConnection, ProviderSecret
from apps.webhooks.states import InboundOutcome


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


def list_provider_connections() -> list[ProviderConnection]:
    """Return every organization's connections: for the shell, which asks for no right."""
    return list(ProviderConnection.objects.order_by("organization_id", "id"))


def count_ignored(
    *, connection: ProviderConnection, types: Sequence[str], number_max: int
) -> dict[str, int]:
    """
    Return how many events of each of these types were ignored and can still be worked.

    Types without one are left out, and of none more than `number_max` are counted.
    """
    found = {type_: _ignored(connection, type_)[:number_max].count() for type_ in types}
    return {type_: number for type_, number in found.items() if number}


def lock_ignored(*, connection: ProviderConnection, type: str, limit: int) -> list[UUID]:  # noqa: A002
    """Return the ids of ignored events of a type that can still be worked, oldest first, locked."""
    rows = _ignored(connection, type).order_by("id").select_for_update(no_key=True)
    return list(rows.values_list("id", flat=True)[:limit])


def _ignored(connection: ProviderConnection, type_: str) -> QuerySet[InboundEvent]:
    return InboundEvent.objects.filter(
        organization_id=connection.organization_id,
        connection=connection,
        type=type_,
        outcome=InboundOutcome.IGNORED,
        sealed_body__isnull=False,
    )
