"""How endpoints and deliveries are named and linked to on each other's screens."""

from urllib.parse import urlsplit

from django.urls import reverse
from django.utils.safestring import SafeString

from apps.core.admin_base import cells
from apps.core.ids import encode_id
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint


def host_of(endpoint: WebhookEndpoint) -> str:
    """Return where an endpoint is: a path may hold a token of the client's, and is not shown."""
    return urlsplit(endpoint.url).netloc.rsplit("@", maxsplit=1)[-1]


def delivery_link(delivery: WebhookDelivery) -> SafeString:
    """Link to a delivery."""
    url = reverse("admin:webhooks_webhookdelivery_change", args=[encode_id("whd", delivery.id)])
    return cells.short_id("whd", delivery.id, url=url)


def answer_cell(status_code: int | None, outcome: str) -> SafeString:
    """Show what the other side answered: its status, or why there is none."""
    if status_code is not None:
        return cells.code(status_code)
    return cells.text(outcome.replace("_", " "))
