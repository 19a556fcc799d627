"""Endpoints, the secrets that sign what they are sent, and where and of what they may be told."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet

from apps.core.events import event_classes, public_type
from apps.webhooks.errors import EndpointNotFound
from apps.webhooks.models import WebhookEndpoint, WebhookSecret
from apps.webhooks.rules import targets
from apps.webhooks.rules.targets import Policy
from apps.webhooks.states import EndpointStatus


def get_policy() -> Policy:
    """Return where this deployment lets webhooks go."""
    return Policy(
        ports=frozenset(settings.WEBHOOK_PORTS),
        allow_networks=targets.parse_networks(settings.WEBHOOK_ALLOW_NETWORKS),
        deny_networks=targets.parse_networks(settings.WEBHOOK_DENY_NETWORKS),
        proxy=targets.parse_proxy(settings.WEBHOOK_EGRESS_PROXY),
    )


def list_public_event_types() -> list[str]:
    """Return every type that a client can meet."""
    return sorted(get_read_scopes())


def get_read_scopes() -> dict[str, str]:
    """Return by every type that a client can meet the scope of a key that may read it."""
    return {public_type(kind.name): kind.read_scope for kind in event_classes() if kind.public}


def list_endpoints(*, organization_id: UUID) -> QuerySet[WebhookEndpoint]:
    """Return the organization's endpoints that were not deleted."""
    return WebhookEndpoint.objects.filter(organization_id=organization_id).exclude(
        status=EndpointStatus.DELETED
    )


class Footing(NamedTuple):
    """What decides how an endpoint is owed an event."""

    endpoint_id: UUID
    status: str
    lanes: int
    resume_from: datetime | None


def footing_of(endpoint: WebhookEndpoint) -> Footing:
    """Return how the endpoint is owed events, as it was read."""
    return Footing(endpoint.id, endpoint.status, endpoint.lanes, endpoint.resume_from)


def list_footings(*, organization_id: UUID) -> set[Footing]:
    """Return how each endpoint is owed events now."""
    rows = list_endpoints(organization_id=organization_id)
    return {Footing(*row) for row in rows.values_list("id", "status", "lanes", "resume_from")}


def require_endpoint(*, organization_id: UUID, endpoint_id: UUID) -> None:
    """
    Refuse what names an endpoint that the organization never had; what was deleted has a history.

    :raises EndpointNotFound: if it never had one of this id
    """
    rows = WebhookEndpoint.objects.filter(organization_id=organization_id, id=endpoint_id)
    if not rows.exists():
        raise EndpointNotFound("No such webhook endpoint.")


def get_endpoint(*, organization_id: UUID, endpoint_id: UUID) -> WebhookEndpoint:
    """
    Return one endpoint.

    :raises EndpointNotFound: if there is none, or it was deleted
    """
    found = list_endpoints(organization_id=organization_id).filter(id=endpoint_id).first()
    if found is None:
        raise EndpointNotFound("No such webhook endpoint.")
    return found


def get_endpoint_for_update(*, organization_id: UUID, endpoint_id: UUID) -> WebhookEndpoint:
    """
    Return one endpoint, locked: the first lock of every act on it, before lanes and deliveries.

    :raises EndpointNotFound: if there is none, or it was deleted
    """
    found = (
        list_endpoints(organization_id=organization_id)
        .select_for_update(no_key=True)
        .filter(id=endpoint_id)
        .first()
    )
    if found is None:
        raise EndpointNotFound("No such webhook endpoint.")
    return found


def get_endpoint_any_for_update(*, organization_id: UUID, endpoint_id: UUID) -> WebhookEndpoint:
    """Return one endpoint, locked, also a deleted one: what is open there is still canceled."""
    return WebhookEndpoint.objects.select_for_update(no_key=True).get(
        organization_id=organization_id, id=endpoint_id
    )


def lock_endpoints(*, organization_id: UUID) -> list[WebhookEndpoint]:
    """Return all endpoints of the organization, locked, so that their number can be judged."""
    rows = list_endpoints(organization_id=organization_id).order_by("id")
    return list(rows.select_for_update(no_key=True))


def list_signing_secrets(
    *, organization_id: UUID, endpoint_id: UUID, now: datetime
) -> list[WebhookSecret]:
    """Return the secrets that have not expired, newest first."""
    return list(
        WebhookSecret.objects.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=now),
            organization_id=organization_id,
            endpoint_id=endpoint_id,
        ).order_by("-id")
    )
