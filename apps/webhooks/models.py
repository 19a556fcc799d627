"""Endpoints, what is owed to them, every attempt to deliver it; and what providers told us."""

from typing import ClassVar, Final, override

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import (
    Guard,
    append_only,
    body,
    frozen_columns,
    kept_for_a_month,
    moves_only,
    never_deleted,
)
from apps.core.work import WorkRow, WorkState, work_indexes
from apps.webhooks.rules.inbound import EVENT_ID_LENGTH_MAX, KEY_LENGTH_MAX, TYPE_LENGTH_MAX
from apps.webhooks.rules.retries import Outcome
from apps.webhooks.rules.targets import URL_LENGTH_MAX
from apps.webhooks.states import (
    CLOSED,
    DELIVERY_MOVES,
    ENDPOINT_MOVES,
    INBOUND_FINAL,
    INBOUND_MOVES,
    INBOUND_WAITS,
    DeliveryStatus,
    DisabledReason,
    EndpointStatus,
    InboundOutcome,
    Ordering,
)

LANES_MAX: Final = 8
LANES_DEFAULT: Final = 4


class WebhookEndpoint(OrganizationOwned):
    """A URL of an organization to which its events are sent, and how it has been answering."""

    url = models.CharField(max_length=URL_LENGTH_MAX)
    description = models.CharField(max_length=500, blank=True, default="")
    event_types = ArrayField(models.CharField(max_length=100))
    api_version = models.CharField(max_length=10)
    status = models.CharField(max_length=8, choices=EndpointStatus, default=EndpointStatus.ENABLED)
    disabled_reason = models.CharField(max_length=9, choices=DisabledReason, blank=True, default="")
    ordering = models.CharField(max_length=9, choices=Ordering, default=Ordering.NONE)
    max_in_flight = models.PositiveSmallIntegerField(default=LANES_DEFAULT)
    # The database's clock, as in the event log: an endpoint gets the events recorded after it.
    created_at = models.DateTimeField(db_default=Now())
    event_sequence = models.PositiveIntegerField(default=0)

    first_failure_at = models.DateTimeField(
        null=True, db_comment="Since when nothing has succeeded; NULL after any success."
    )
    unreached_in_a_row = models.PositiveIntegerField(default=0)
    circuit_openings = models.PositiveIntegerField(default=0)
    circuit_open_until = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(name="webhook_endpoint_of", fields=["organization", "-id"])]
        constraints = [
            OwnedKey(name="webhook_endpoint_of_its_organization"),
            models.CheckConstraint(
                name="webhook_endpoint_has_one_to_eight_lanes",
                condition=Q(max_in_flight__gte=1, max_in_flight__lte=LANES_MAX),
            ),
            models.CheckConstraint(
                name="webhook_endpoint_says_why_it_is_off",
                condition=~Q(status="disabled") | ~Q(disabled_reason=""),
            ),
            models.CheckConstraint(
                name="webhook_endpoint_wants_something", condition=Q(event_types__len__gt=0)
            ),
            models.CheckConstraint(
                name="webhook_endpoint_status_is_known",
                condition=Q(status__in=EndpointStatus.values, ordering__in=Ordering.values),
            ),
        ]
        triggers = [
            never_deleted("webhook_endpoint_is_never_deleted"),
            moves_only("webhook_endpoint_moves", column="status", moves=ENDPOINT_MOVES),
            frozen_columns(
                "webhook_endpoint_stays_with_its_organization",
                columns=["id", "organization_id", "created_at"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.description or str(self.pk)


class WebhookSecret(OrganizationOwned):
    """One secret of an endpoint; every one that has not expired signs, newest first."""

    endpoint = OwnedForeignKey(WebhookEndpoint)
    sealed = models.BinaryField()
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, db_comment="NULL: until it is rotated.")

    class Meta:
        indexes = [
            models.Index(name="webhook_secret_of", fields=["organization", "endpoint", "-id"])
        ]
        constraints = [
            SameOrganization(name="webhook_secret_is_of_its_endpoint", field="endpoint"),
            models.UniqueConstraint(
                name="webhook_endpoint_has_one_lasting_secret",
                fields=["organization", "endpoint"],
                condition=Q(expires_at__isnull=True),
            ),
        ]


class WebhookLane(WorkRow, OrganizationOwned):
    """
    One lane of an endpoint: a work row whose holder sends that lane's deliveries one by one.

    All deliveries about one aggregate are on one lane, so two of them are never under way at once.
    """

    endpoint = OwnedForeignKey(WebhookEndpoint)
    lane = models.PositiveSmallIntegerField()
    is_slow = models.BooleanField(default=False, db_comment="Worked by the slow endpoints' queue.")

    class Meta:
        indexes = work_indexes("webhook_lane")
        constraints = [
            SameOrganization(name="webhook_lane_is_of_its_endpoint", field="endpoint"),
            models.UniqueConstraint(
                name="webhook_endpoint_has_each_lane_once",
                fields=["organization", "endpoint", "lane"],
            ),
            models.CheckConstraint(
                name="webhook_lane_is_one_of_eight", condition=Q(lane__lt=LANES_MAX)
            ),
        ]


class WebhookBody(OrganizationOwned):
    """An event as it is sent in one API version, rendered once; every attempt sends these bytes."""

    event_id = models.UUIDField()
    api_version = models.CharField(max_length=10)
    body = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="webhook_event_is_rendered_once_per_version",
                fields=["organization", "event_id", "api_version"],
            ),
        ]
        triggers: ClassVar = [
            append_only("webhook_bodies_are_append_only", removable=True),
            kept_for_a_month("webhook_bodies_are_kept"),
        ]


class WebhookFanout(OrganizationOwned):
    """How many deliveries one event was given; an event that no endpoint wants has none."""

    event_id = models.UUIDField()
    delivery_count = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="webhook_event_is_fanned_out_once", fields=["organization", "event_id"]
            ),
        ]
        triggers: ClassVar = [
            append_only("webhook_fanouts_are_append_only", removable=True),
            kept_for_a_month("webhook_fanouts_are_kept"),
        ]


class WebhookDelivery(OrganizationOwned):
    """One event owed to one endpoint."""

    endpoint = OwnedForeignKey(WebhookEndpoint)
    event_id = models.UUIDField()
    event_type = models.CharField(max_length=100)
    aggregate_id = models.CharField(max_length=64)
    sequence = models.BigIntegerField(db_comment="The event's place among those of its aggregate.")
    api_version = models.CharField(max_length=10)
    lane_key = models.BigIntegerField(db_comment="From the aggregate; modulo the lanes, the lane.")
    lane = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=9, choices=DeliveryStatus, default=DeliveryStatus.PENDING)
    attempts = models.PositiveSmallIntegerField(
        default=0, db_comment="Of the present budget; a replay begins at 0 again."
    )
    attempts_made = models.PositiveIntegerField(default=0, db_comment="Since the beginning.")
    next_attempt_at = models.DateTimeField(db_default=Now())
    last_outcome = models.CharField(max_length=16, blank=True, default="")
    last_status_code = models.PositiveSmallIntegerField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True)
    event_sequence = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "webhook deliveries"
        indexes = [
            models.Index(
                name="webhook_delivery_due",
                fields=["organization", "endpoint", "lane", "next_attempt_at"],
                condition=Q(status="pending"),
            ),
            models.Index(
                name="webhook_delivery_in_order",
                fields=["organization", "endpoint", "aggregate_id", "sequence"],
                condition=Q(status="pending"),
            ),
            models.Index(
                name="webhook_delivery_of_endpoint", fields=["organization", "endpoint", "-id"]
            ),
        ]
        constraints = [
            OwnedKey(name="webhook_delivery_of_its_organization"),
            SameOrganization(name="webhook_delivery_is_to_its_endpoint", field="endpoint"),
            models.UniqueConstraint(
                name="webhook_event_is_owed_once_to_an_endpoint",
                fields=["organization", "event_id", "endpoint"],
            ),
            models.CheckConstraint(
                name="webhook_delivery_is_closed_iff_final",
                condition=Q(status__in=CLOSED, closed_at__isnull=False)
                | (~Q(status__in=CLOSED) & Q(closed_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="webhook_delivery_status_is_known",
                condition=Q(status__in=DeliveryStatus.values),
            ),
        ]
        triggers = [
            moves_only("webhook_delivery_moves", column="status", moves=DELIVERY_MOVES),
            frozen_columns(
                "webhook_delivery_is_what_is_owed",
                columns=["id", "organization_id", "endpoint_id", "event_id", "api_version"],
            ),
            never_deleted("webhook_delivery_is_never_deleted", removable=True),
            kept_for_a_month("webhook_delivery_is_kept", unless="OLD.status = 'pending'"),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.event_type} {self.status}"


class WebhookAttempt(OrganizationOwned):
    """One attempt to deliver, as it went; a fact, also where its worker had lost the lane."""

    delivery = OwnedForeignKey(WebhookDelivery)
    endpoint = OwnedForeignKey(WebhookEndpoint)
    number = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField()
    outcome = models.CharField(
        max_length=16, choices=[(each.value, each.value) for each in Outcome]
    )
    status_code = models.PositiveSmallIntegerField(null=True)
    address = models.CharField(max_length=64, blank=True, default="")
    answer_head = models.TextField(blank=True, default="")

    class Meta:
        indexes = [
            models.Index(name="webhook_attempt_of", fields=["organization", "delivery", "id"]),
            models.Index(
                name="webhook_attempt_at_endpoint", fields=["organization", "endpoint", "-id"]
            ),
        ]
        constraints = [
            SameOrganization(name="webhook_attempt_is_of_its_delivery", field="delivery"),
            SameOrganization(name="webhook_attempt_is_at_its_endpoint", field="endpoint"),
        ]
        triggers: ClassVar = [
            append_only("webhook_attempts_are_append_only", removable=True),
            kept_for_a_month("webhook_attempts_are_kept"),
        ]


class WebhookReplay(OrganizationOwned):
    """One request to send again; a second click within the minute finds the first."""

    endpoint = OwnedForeignKey(WebhookEndpoint)
    scope = models.CharField(max_length=64, db_comment="A delivery's id, or failed since when.")
    minute = models.DateTimeField()
    delivery_count = models.PositiveIntegerField()
    reason = models.CharField(max_length=500, blank=True, default="")
    requested_by = models.CharField(max_length=100)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            SameOrganization(name="webhook_replay_is_of_its_endpoint", field="endpoint"),
            models.UniqueConstraint(
                name="webhook_replay_is_asked_once_a_minute",
                fields=["organization", "endpoint", "scope", "minute"],
            ),
        ]
        triggers: ClassVar = [append_only("webhook_replays_are_append_only")]


# --- What providers tell us -------------------------------------------------------------------


class ProviderConnection(OrganizationOwned):
    """One provider's way to tell an organization what happened; its id is in the hook's URL."""

    provider = models.CharField(max_length=32)
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(name="provider_connection_of", fields=["organization", "-id"])]
        constraints = [OwnedKey(name="provider_connection_of_its_organization")]
        triggers = [
            never_deleted("provider_connection_is_never_deleted"),
            frozen_columns(
                "provider_connection_stays_with_its_organization",
                columns=["id", "organization_id", "provider", "created_at"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.name


class ProviderSecret(OrganizationOwned):
    """One secret that a provider signs with; a message may bear any that has not expired."""

    connection = OwnedForeignKey(ProviderConnection)
    sealed = models.BinaryField()
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, db_comment="NULL: until the next one replaces it.")

    class Meta:
        indexes = [
            models.Index(name="provider_secret_of", fields=["organization", "connection", "-id"])
        ]
        constraints = [
            SameOrganization(name="provider_secret_is_of_its_connection", field="connection"),
            models.UniqueConstraint(
                name="provider_connection_has_one_lasting_secret",
                fields=["organization", "connection"],
                condition=Q(expires_at__isnull=True),
            ),
        ]


class RefusedCall(OrganizationOwned):
    """How many calls of a hook were refused on one day, and why: all that is kept of them."""

    connection = OwnedForeignKey(ProviderConnection)
    day = models.DateField(db_comment="In UTC.")
    reason = models.CharField(max_length=32)
    count = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            SameOrganization(name="refused_call_is_of_its_connection", field="connection"),
            models.UniqueConstraint(
                name="refused_calls_are_counted_by_day",
                fields=["organization", "connection", "day", "reason"],
            ),
        ]


class InboundEvent(WorkRow, OrganizationOwned):
    """
    One verified event of a provider, kept once however often it was sent, and what became of it.

    The row is the queue. `effect_*` names the event of ours that tells of what it changed.
    """

    connection = OwnedForeignKey(ProviderConnection)
    provider = models.CharField(max_length=32)
    event_id = models.CharField(max_length=EVENT_ID_LENGTH_MAX)
    type = models.CharField(max_length=TYPE_LENGTH_MAX)
    object_key = models.CharField(max_length=KEY_LENGTH_MAX, blank=True, default="")
    linked_key = models.CharField(
        max_length=KEY_LENGTH_MAX, blank=True, default="", db_comment="Staff's, for object_key."
    )
    sealed_body = models.BinaryField(null=True, db_comment="NULL: no longer kept.")
    received_at = models.DateTimeField()
    outcome = models.CharField(
        max_length=10, choices=InboundOutcome, default=InboundOutcome.RECEIVED
    )
    decided_at = models.DateTimeField(null=True)
    rank = models.IntegerField(null=True, db_comment="How far it takes its object.")
    effect_type = models.CharField(max_length=50, blank=True, default="")
    effect_id = models.CharField(max_length=64, blank=True, default="")
    effect_sequence = models.BigIntegerField(null=True)

    class Meta:
        indexes = [
            *work_indexes("inbound_event"),
            models.Index(name="inbound_event_of", fields=["organization", "-id"]),
            models.Index(
                name="inbound_event_of_connection", fields=["organization", "connection", "-id"]
            ),
            models.Index(
                name="inbound_event_that_waits",
                fields=["organization", "provider", "object_key"],
                condition=Q(state__in=[WorkState.PENDING, WorkState.LEASED]),
            ),
            models.Index(
                name="inbound_event_of_no_object",
                fields=["organization", "outcome", "-id"],
                condition=Q(outcome__in=INBOUND_WAITS),
            ),
            models.Index(
                name="inbound_event_of_its_effect",
                fields=["organization", "effect_id"],
                condition=Q(outcome=InboundOutcome.APPLIED),
            ),
            models.Index(
                name="inbound_event_with_a_body",
                fields=["received_at"],
                condition=Q(sealed_body__isnull=False),
            ),
        ]
        constraints = [
            SameOrganization(name="inbound_event_is_of_its_connection", field="connection"),
            models.UniqueConstraint(
                name="inbound_event_is_kept_once", fields=["organization", "provider", "event_id"]
            ),
            models.CheckConstraint(
                name="inbound_event_is_done_only_with_an_outcome",
                condition=~Q(state=WorkState.DONE) | Q(outcome__in=INBOUND_FINAL),
            ),
            models.CheckConstraint(
                name="inbound_event_is_given_up_only_unmatched",
                condition=~Q(state=WorkState.FAILED) | Q(outcome=InboundOutcome.UNMATCHED),
            ),
            models.CheckConstraint(
                name="inbound_event_names_its_effect_iff_applied",
                condition=Q(outcome=InboundOutcome.APPLIED, effect_sequence__isnull=False)
                | (~Q(outcome=InboundOutcome.APPLIED) & Q(effect_sequence__isnull=True)),
            ),
        ]
        triggers = [
            moves_only("inbound_event_moves", column="outcome", moves=INBOUND_MOVES),
            frozen_columns(
                "inbound_event_is_what_was_told",
                columns=[
                    *("id", "organization_id", "connection_id", "provider"),
                    *("event_id", "type", "object_key", "received_at"),
                ],
            ),
            Guard(
                name="inbound_event_body_only_goes",
                level=pgtrigger.Row,
                when=pgtrigger.Before,
                operation=pgtrigger.UpdateOf("sealed_body"),
                func=body(__file__, "inbound_event_body_only_goes"),
            ),
            # Until then a repeat is known by this row.
            Guard(
                name="inbound_event_is_kept_for_400_days",
                level=pgtrigger.Row,
                when=pgtrigger.Before,
                operation=pgtrigger.Delete,
                func=body(__file__, "inbound_event_is_kept_for_400_days"),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.type} {self.outcome}"
