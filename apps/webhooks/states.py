"""The states of endpoints, deliveries and providers' events, and the moves between them."""

from typing import Final

from django.db.models import TextChoices


class EndpointStatus(TextChoices):
    ENABLED = "enabled"
    DISABLED = "disabled"
    DELETED = "deleted"


ENDPOINT_MOVES: Final = {
    EndpointStatus.ENABLED: {EndpointStatus.DISABLED, EndpointStatus.DELETED},
    EndpointStatus.DISABLED: {EndpointStatus.ENABLED, EndpointStatus.DELETED},
    EndpointStatus.DELETED: set[EndpointStatus](),
}


class DisabledReason(TextChoices):
    """Why an endpoint is off: it said 410, it failed for too long, or somebody asked."""

    GONE = "gone"
    FAILING = "failing"
    REQUESTED = "requested"


class DeliveryStatus(TextChoices):
    PENDING = "pending"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


# A replay brings any closed delivery back with a new budget.
DELIVERY_MOVES: Final = {
    DeliveryStatus.PENDING: {
        DeliveryStatus.PAUSED,
        DeliveryStatus.SUCCEEDED,
        DeliveryStatus.FAILED,
        DeliveryStatus.CANCELED,
    },
    DeliveryStatus.PAUSED: {DeliveryStatus.PENDING, DeliveryStatus.CANCELED},
    DeliveryStatus.SUCCEEDED: {DeliveryStatus.PENDING},
    DeliveryStatus.FAILED: {DeliveryStatus.PENDING},
    DeliveryStatus.CANCELED: {DeliveryStatus.PENDING},
}
OPEN: Final = (DeliveryStatus.PENDING, DeliveryStatus.PAUSED)
CLOSED: Final = (DeliveryStatus.SUCCEEDED, DeliveryStatus.FAILED, DeliveryStatus.CANCELED)


class Ordering(TextChoices):
    """Whether a later event of an aggregate waits for the earlier one."""

    NONE = "none"
    AGGREGATE = "aggregate"


class InboundOutcome(TextChoices):
    """What became of a provider's event."""

    RECEIVED = "received"
    APPLIED = "applied"
    SUPERSEDED = "superseded"
    PARKED = "parked"
    UNMATCHED = "unmatched"
    IGNORED = "ignored"


_KNOWN: Final = {InboundOutcome.APPLIED, InboundOutcome.SUPERSEDED}
# What waits for its object is parked; after three days it waits for a person.
INBOUND_MOVES: Final = {
    InboundOutcome.RECEIVED: {
        *_KNOWN,
        InboundOutcome.PARKED,
        InboundOutcome.UNMATCHED,
        InboundOutcome.IGNORED,
    },
    InboundOutcome.PARKED: {*_KNOWN, InboundOutcome.UNMATCHED, InboundOutcome.IGNORED},
    InboundOutcome.UNMATCHED: {*_KNOWN, InboundOutcome.IGNORED},
    InboundOutcome.APPLIED: set[InboundOutcome](),
    InboundOutcome.SUPERSEDED: set[InboundOutcome](),
    # Once its type has a handler, somebody may have it worked as if it had come just now.
    InboundOutcome.IGNORED: {InboundOutcome.RECEIVED},
}
INBOUND_DONE: Final = (*sorted(_KNOWN), InboundOutcome.IGNORED)
INBOUND_WAITS: Final = (InboundOutcome.PARKED, InboundOutcome.UNMATCHED)
