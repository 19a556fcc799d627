"""
What an acting key may read: it has an endpoint sent nothing else (ADR 0114).

Asked inside the operation, under the endpoint's lock: what an endpoint is subscribed to may change
between a look at it and the act. Staff and jobs are bound by their capabilities alone.
"""

from collections.abc import Sequence
from uuid import UUID

from apps.accounts import queries as accounts
from apps.core.actors import Actor
from apps.webhooks import queries
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint
from apps.webhooks.rules import subscriptions
from apps.webhooks.states import OPEN


def hidden_from(actor: Actor, *, organization_id: UUID) -> dict[str, str]:
    """Return the types of events that the actor may not read, with the scope that a key lacks."""
    scopes = accounts.find_scopes(actor=actor, organization_id=organization_id)
    if scopes is None:
        return {}
    return subscriptions.hidden_types(queries.get_read_scopes(), scopes=scopes)


def require_types(event_types: Sequence[str], *, organization_id: UUID, actor: Actor) -> None:
    """
    Refuse a key that may not read all that these subscriptions bring.

    :raises SubscriptionNotPermitted: naming the first type that it may not
    """
    hidden = hidden_from(actor, organization_id=organization_id)
    subscriptions.check_readable(event_types, hidden=hidden)


def require_endpoint(
    endpoint: WebhookEndpoint, *, actor: Actor, event_types: Sequence[str] = ()
) -> None:
    """
    Refuse a key that may not read all the endpoint is subscribed to, is still owed, or will get.

    :raises SubscriptionNotPermitted: naming the first type that it may not
    """
    hidden = hidden_from(actor, organization_id=endpoint.organization_id)
    if not hidden:
        return
    # What waits may be of a subscription that was given up since.
    owed = WebhookDelivery.objects.filter(
        organization_id=endpoint.organization_id,
        endpoint_id=endpoint.id,
        status__in=OPEN,
        event_type__in=hidden,
    )
    waiting = owed.values_list("event_type", flat=True).distinct()
    subscriptions.check_readable([*endpoint.event_types, *event_types, *waiting], hidden=hidden)
