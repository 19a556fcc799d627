"""An endpoint's health, between its row and the rules."""

from uuid import UUID

from apps.webhooks.models import WebhookEndpoint
from apps.webhooks.rules.retries import Health

_FIELDS = ["first_failure_at", "unreached_in_a_row", "circuit_openings", "circuit_open_until"]


def health_of(endpoint: WebhookEndpoint) -> Health:
    """Return the health that the row holds."""
    return Health(**{name: getattr(endpoint, name) for name in _FIELDS})


def set_health(endpoint: WebhookEndpoint, health: Health) -> None:
    """Store a health in the locked row, if it is another one."""
    if health == health_of(endpoint):
        return
    for name in _FIELDS:
        setattr(endpoint, name, getattr(health, name))
    endpoint.save(update_fields=_FIELDS)


def store_health(*, organization_id: UUID, endpoint_id: UUID, health: Health) -> None:
    """Store another health in the row, which is locked."""
    WebhookEndpoint.objects.filter(organization_id=organization_id, id=endpoint_id).update(
        **{name: getattr(health, name) for name in _FIELDS}
    )
