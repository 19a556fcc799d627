"""Endpoints, what is owed to them, every attempt to deliver it; and what providers told us."""

from apps.webhooks.models.deliveries import (
    WebhookAttempt,
    WebhookBody,
    WebhookDelivery,
    WebhookFanout,
    WebhookReplay,
)
from apps.webhooks.models.endpoints import (
    LANES_DEFAULT,
    LANES_MAX,
    WebhookChange,
    WebhookEndpoint,
    WebhookLane,
    WebhookSecret,
)
from apps.webhooks.models.inbox import InboundEvent, ProviderConnection, ProviderSecret, RefusedCall

__all__ = [
    "LANES_DEFAULT",
    "LANES_MAX",
    "InboundEvent",
    "ProviderConnection",
    "ProviderSecret",
    "RefusedCall",
    "WebhookAttempt",
    "WebhookBody",
    "WebhookChange",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookFanout",
    "WebhookLane",
    "WebhookReplay",
    "WebhookSecret",
]
