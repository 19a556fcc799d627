"""What this app says about itself; `endpoint` names whom it is about. No URL: its host only."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import urlsplit

from apps.core.events import Event
from apps.core.ids import encode_id

if TYPE_CHECKING:
    from apps.webhooks.models import WebhookDelivery, WebhookEndpoint


@dataclass(frozen=True, kw_only=True)
class EndpointEvent(Event):
    """Something happened to an endpoint."""

    aggregate_type: ClassVar[str] = "webhook_endpoint"
    read_scope: ClassVar[str] = "webhooks:read"
    example: ClassVar[dict[str, object]] = {
        "endpoint": "whe_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "host": "hooks.example.com",
        "status": "enabled",
        "disabled_reason": "",
        "event_types": ["payout.*"],
    }

    endpoint: str
    "Which one."
    host: str
    "Where it leads; the rest of its URL may hold a token."
    status: str
    disabled_reason: str
    "Why it is off: `gone`, `failing` or `requested`; empty while it is on."
    event_types: list[str]
    "What it is sent, as it was asked for."

    @classmethod
    def of(cls, endpoint: "WebhookEndpoint", *, now: datetime) -> Self:
        """Take the snapshot of an endpoint as it is after the change."""
        printed = encode_id("whe", endpoint.id)
        return cls(
            organization_id=endpoint.organization_id,
            aggregate_id=printed,
            sequence=endpoint.event_sequence,
            occurred_at=now,
            endpoint=printed,
            host=urlsplit(endpoint.url).hostname or "",
            status=str(endpoint.status),
            disabled_reason=str(endpoint.disabled_reason),
            event_types=list(endpoint.event_types),
        )


@dataclass(frozen=True, kw_only=True)
class EndpointCreated(EndpointEvent):
    """An endpoint was made."""

    name: ClassVar[str] = "webhooks.webhook_endpoint.created"


@dataclass(frozen=True, kw_only=True)
class EndpointUpdated(EndpointEvent):
    """Where an endpoint leads, what it is sent or how it is sent changed."""

    name: ClassVar[str] = "webhooks.webhook_endpoint.updated"


@dataclass(frozen=True, kw_only=True)
class EndpointDisabled(EndpointEvent):
    """An endpoint is sent nothing more: by request, since it said 410, or failed for too long."""

    name: ClassVar[str] = "webhooks.webhook_endpoint.disabled"
    example: ClassVar[dict[str, object]] = EndpointEvent.example | {
        "status": "disabled",
        "disabled_reason": "failing",
    }


@dataclass(frozen=True, kw_only=True)
class EndpointEnabled(EndpointEvent):
    """An endpoint that was off is sent to again."""

    name: ClassVar[str] = "webhooks.webhook_endpoint.enabled"


@dataclass(frozen=True, kw_only=True)
class EndpointPinged(EndpointEvent):
    """A test message, for the endpoint that asked for it and nobody else."""

    name: ClassVar[str] = "webhooks.webhook.ping"


@dataclass(frozen=True, kw_only=True)
class DeliveryExhausted(Event):
    """All attempts to deliver one event to one endpoint failed."""

    name: ClassVar[str] = "webhooks.webhook_delivery.exhausted"
    aggregate_type: ClassVar[str] = "webhook_delivery"
    read_scope: ClassVar[str] = "webhooks:read"
    example: ClassVar[dict[str, object]] = {
        "endpoint": "whe_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "event": "evt_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "event_type": "payout.returned",
        "attempts": 10,
        "last_outcome": "server_error",
    }

    endpoint: str
    "Who did not take it."
    event: str
    "What was not taken."
    event_type: str
    "The type of that event."
    attempts: int
    "How often it was sent."
    last_outcome: str
    "How the last attempt ended."

    @classmethod
    def of(cls, delivery: "WebhookDelivery", *, now: datetime) -> Self:
        """Take the snapshot of a delivery that has just failed for good."""
        return cls(
            organization_id=delivery.organization_id,
            aggregate_id=encode_id("whd", delivery.id),
            sequence=delivery.event_sequence,
            occurred_at=now,
            endpoint=encode_id("whe", delivery.endpoint_id),
            event=encode_id("evt", delivery.event_id),
            event_type=delivery.event_type,
            attempts=delivery.attempts,
            last_outcome=delivery.last_outcome,
        )
