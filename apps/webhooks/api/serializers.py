"""The shapes of endpoints, deliveries and events in the API."""

from typing import Any, override

from rest_framework import serializers

from apps.core.api.fields import (
    CodeField,
    IdField,
    InstantField,
    IntegerField,
    TextField,
    TruthField,
)
from apps.core.api.shapes import StrictSerializer
from apps.webhooks import operations
from apps.webhooks.models import LANES_DEFAULT, LANES_MAX, WebhookEndpoint
from apps.webhooks.rules.targets import URL_LENGTH_MAX
from apps.webhooks.states import DeliveryStatus, DisabledReason, EndpointStatus, Ordering

EVENT_TYPES_MAX = 100
OVERLAP_SECONDS_MAX = 604_800


def _event_types(**more: Any) -> serializers.ListField:  # noqa: ANN401  (the framework's)
    return serializers.ListField(
        child=TextField(100), min_length=1, max_length=EVENT_TYPES_MAX, **more
    )


def _count(**more: Any) -> IntegerField:  # noqa: ANN401  (the framework's)
    return IntegerField(least=0, most=2**53, **more)


class CreateEndpoint(StrictSerializer):
    """A URL, and which events go there: `payout.returned`, `payout.*`, or `*`."""

    url = TextField(URL_LENGTH_MAX)
    event_types = _event_types()
    description = TextField(500, allow_blank=True, required=False, default="")
    api_version = TextField(10, required=False)
    ordering = CodeField(Ordering.values, required=False, default=Ordering.NONE)
    max_in_flight = IntegerField(least=1, most=LANES_MAX, required=False, default=LANES_DEFAULT)


class ChangeEndpoint(StrictSerializer):
    """What is named is changed, the rest stays."""

    url = TextField(URL_LENGTH_MAX, required=False)
    event_types = _event_types(required=False)
    description = TextField(500, allow_blank=True, required=False)
    api_version = TextField(10, required=False)
    ordering = CodeField(Ordering.values, required=False)
    max_in_flight = IntegerField(least=1, most=LANES_MAX, required=False)


class RotateSecret(StrictSerializer):
    """How long the secret before goes on signing beside the new one."""

    overlap_seconds = IntegerField(
        least=0,
        most=OVERLAP_SECONDS_MAX,
        required=False,
        default=operations.OVERLAP_SECONDS_DEFAULT,
    )


class WithReason(StrictSerializer):
    reason = TextField(500, allow_blank=True, required=False, default="")


class EnableEndpoint(StrictSerializer):
    """What becomes of the deliveries that were set aside meanwhile."""

    paused = CodeField(("resume", "resume_since", "discard"))
    since = InstantField(required=False, allow_null=True, default=None)

    @override
    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if (attrs["paused"] == "resume_since") != (attrs["since"] is not None):
            raise serializers.ValidationError({"since": ["This goes with resume_since only."]})
        return attrs


class ReplayFailed(WithReason):
    """Everything that failed for good and was created at `since` or later."""

    since = InstantField()


class Endpoint(StrictSerializer):
    """An endpoint as the API prints it; its secrets never come again."""

    id = IdField("whe")
    url = TextField(URL_LENGTH_MAX)
    description = TextField(500, allow_blank=True)
    event_types = serializers.ListField(child=TextField(100))
    api_version = TextField(10)
    status = CodeField(EndpointStatus.values)
    disabled_reason = CodeField(DisabledReason.values, allow_null=True)
    ordering = CodeField(Ordering.values)
    max_in_flight = _count()
    first_failure_at = InstantField(allow_null=True)
    circuit_open_until = InstantField(allow_null=True)
    sequence = _count(source="event_sequence")
    created_at = InstantField()

    @override
    def to_representation(self, instance: WebhookEndpoint) -> dict[str, Any]:
        shown: dict[str, Any] = super().to_representation(instance)
        return shown | {"disabled_reason": instance.disabled_reason or None}


class EndpointWithSecret(Endpoint):
    """An endpoint with its new secret; null where an Idempotency-Key is used again."""

    secret = serializers.SerializerMethodField()

    def get_secret(self, _: WebhookEndpoint) -> str | None:
        secret: str | None = self.context["secret"]
        return secret


class Replay(StrictSerializer):
    """A replay: how many deliveries are sent again."""

    id = IdField("whr")
    delivery_count = _count()
    created_at = InstantField()


class Delivery(StrictSerializer):
    """One event owed to one endpoint."""

    id = IdField("whd")
    endpoint = IdField("whe", source="endpoint_id")
    event = IdField("evt", source="event_id")
    event_type = TextField(100)
    aggregate_id = TextField(64)
    sequence = _count()
    api_version = TextField(10)
    status = CodeField(DeliveryStatus.values)
    attempts = _count()
    next_attempt_at = InstantField(allow_null=True)
    last_outcome = TextField(16, allow_null=True)
    last_status_code = _count(allow_null=True)
    created_at = InstantField()
    closed_at = InstantField(allow_null=True)

    @override
    def to_representation(self, instance: Any) -> dict[str, Any]:
        shown: dict[str, Any] = super().to_representation(instance)
        is_waiting = instance.status == DeliveryStatus.PENDING
        return shown | {
            "next_attempt_at": shown["next_attempt_at"] if is_waiting else None,
            "last_outcome": instance.last_outcome or None,
        }


class Attempt(StrictSerializer):
    """One attempt as it went; `answer_head` is the beginning of what came back."""

    id = IdField("wha")
    number = _count()
    started_at = InstantField()
    duration_ms = _count()
    outcome = TextField(16)
    status_code = _count(allow_null=True)
    address = TextField(64, allow_blank=True, help_text="Empty where none was reached.")
    answer_head = TextField(2048, allow_blank=True)


class Aggregate(StrictSerializer):
    type = TextField(50)
    id = TextField(64)


class Event(StrictSerializer):
    """An event, in the same form as a webhook's body."""

    id = IdField("evt")
    type = TextField(100)
    timestamp = InstantField()
    api_version = TextField(10)
    organization_id = IdField("org")
    sequence = _count()
    aggregate = Aggregate()
    data = serializers.DictField()  # type: ignore[assignment]  # a field; the class's `data` stays


class EventPage(StrictSerializer):
    """A stretch of the feed; `next` goes on from its end, also when nothing came yet."""

    data = Event(many=True)  # type: ignore[assignment]  # a field; the class's `data` stays
    has_more = TruthField()
    next = TextField(64, allow_null=True)
