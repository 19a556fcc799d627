"""What is owed to endpoints, and every attempt to deliver it."""

from typing import ClassVar, override

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import (
    append_only,
    frozen_columns,
    kept_for_a_month,
    moves_only,
    never_deleted,
)
from apps.webhooks.models.endpoints import WebhookEndpoint
from apps.webhooks.rules.retries import Outcome
from apps.webhooks.states import CLOSED, DELIVERY_MOVES, DeliveryStatus


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
                name="webhook_delivery_set_aside",
                fields=["organization", "endpoint", "id"],
                condition=Q(status="paused"),
            ),
            # So that sending again what failed reads no more than that.
            models.Index(
                name="webhook_delivery_failed",
                fields=["organization", "endpoint", "id"],
                condition=Q(status="failed"),
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
