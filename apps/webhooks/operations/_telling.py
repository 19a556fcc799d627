"""What the organization's contacts are told about its endpoints, in the transaction of the act."""

from datetime import datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from apps.accounts import operations as contacts
from apps.accounts import queries as accounts
from apps.accounts.states import Purpose
from apps.core import transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.webhooks.models import WebhookEndpoint
from apps.webhooks.rules import letters
from apps.webhooks.rules.letters import Told

_MENDS: Final = (Purpose.TECHNICAL,)
# Where events go is a matter of whoever guards the keys as well.
_GUARDS: Final = (Purpose.TECHNICAL, Purpose.SECURITY)


@transactions.required
def tell_disabled(
    endpoint: WebhookEndpoint, *, failing_since: datetime | None, actor: Actor, now: datetime
) -> None:
    """Tell technical contacts that we switched it off: it failed since then, or it said 410."""
    contacts.tell_contacts(
        organization_id=endpoint.organization_id,
        purposes=_MENDS,
        letter=letters.disabled(_told(endpoint), failing_since=failing_since, at=now),
        actor=actor,
    )


@transactions.required
def tell_moved(endpoint: WebhookEndpoint, *, from_url: str, actor: Actor, now: datetime) -> None:
    """Tell technical and security contacts, but for who did it, that its URL is another one."""
    contacts.tell_contacts(
        organization_id=endpoint.organization_id,
        purposes=_GUARDS,
        letter=letters.moved(_told(endpoint), from_host=_host(from_url), by=_named(actor), at=now),
        actor=actor,
    )


def _told(endpoint: WebhookEndpoint) -> Told:
    organization = accounts.get_organization(organization_id=endpoint.organization_id)
    return Told(
        endpoint=encode_id("whe", endpoint.id),
        organization=encode_id("org", organization.id),
        mode=organization.mode,
        host=_host(endpoint.url),
    )


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _named(actor: Actor) -> str:
    match actor.kind:
        case "api_key":
            return f"the API key {encode_id('ak', UUID(actor.id))}"
        case "staff":
            return "a member of Kassa's staff"
        case "job":
            return "Kassa itself"
