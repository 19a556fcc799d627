"""What this app refuses, and under which code."""

from apps.core.errors import NotFound, NotPermitted, NotYet, RuleViolation, StateConflict, TooOften


class EndpointNotFound(NotFound):
    """The organization has no such endpoint, or it was deleted."""


class DeliveryNotFound(NotFound):
    """The organization has no such delivery, or this key may not read its event."""


class EventNotFound(NotFound):
    """The organization has no such event, or this key may not read its resource."""


class UrlRefused(RuleViolation):
    """Webhooks are not sent to such an address; `reason` says which rule."""

    code = "webhook_url_refused"


class UnknownEventType(RuleViolation):
    """No event has this type, or none that this key may read."""

    code = "unknown_event_type"


class SubscriptionNotPermitted(NotPermitted):
    """A key subscribes to, and has sent, only what it may read."""

    code = "insufficient_scope"


class EndpointLimitReached(RuleViolation):
    """An organization has at most 16 endpoints."""

    code = "endpoint_limit_reached"


class SecretLimitReached(RuleViolation):
    """An endpoint has at most three secrets that still sign."""

    code = "secret_limit_reached"


class UnknownApiVersion(RuleViolation):
    """Events are not written in this version."""

    code = "unknown_api_version"


class EndpointDisabled(StateConflict):
    """The endpoint is off; enable it first."""

    code = "endpoint_disabled"


class EndpointChanging(NotYet):
    """What the endpoint is owed is still being set aside; enable it when that is over."""

    code = "endpoint_changing"


class EndpointEnabled(StateConflict):
    """The endpoint is on already."""

    code = "endpoint_enabled"


class DeliveryStillOpen(StateConflict):
    """The delivery has not ended yet, so there is nothing to replay."""

    code = "delivery_still_open"


class ReplayTooOld(RuleViolation):
    """A replay reaches back at most 14 days."""

    code = "replay_too_old"


class ReplayLimitReached(TooOften):
    """An endpoint's deliveries are replayed sixty times a minute at most, by staff ten an hour."""

    code = "replay_limit_reached"


class ConnectionNotFound(NotFound):
    """The organization has no such connection to a provider."""


class UnknownProvider(RuleViolation):
    """We take messages of no provider of this name."""

    code = "unknown_provider"


class SecretMalformed(RuleViolation):
    """A provider's secret is `whsec_` and the base64 of 24 to 64 bytes."""

    code = "secret_malformed"


class InboundEventNotFound(NotFound):
    """The organization has no such event of a provider."""


class InboundEventSettled(StateConflict):
    """The event has its outcome, or was not worked yet; only one without an object is linked."""

    code = "inbound_event_settled"


class InboundTypeUnhandled(StateConflict):
    """No app handles a provider's events of this type, so they would be ignored again."""

    code = "inbound_type_unhandled"


class InboundBodyGone(StateConflict):
    """What the provider wrote is kept for 90 days, and they are over."""

    code = "inbound_body_gone"


class InboundObjectNotFound(RuleViolation):
    """The organization has nothing of this name that the event could be about."""

    code = "inbound_object_not_found"


class CursorExpired(RuleViolation):
    """What followed this place of the feed is no longer kept; begin without a cursor."""

    code = "cursor_expired"
