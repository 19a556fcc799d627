"""What providers told us, and the connections by which they do."""

from typing import override

import pgtrigger
from django.db import models
from django.db.models import Q

import apps.webhooks
from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import Guard, body, frozen_columns, moves_only, never_deleted
from apps.core.work import WorkRow, WorkState, work_indexes
from apps.webhooks.rules.inbound import EVENT_ID_LENGTH_MAX, KEY_LENGTH_MAX, TYPE_LENGTH_MAX
from apps.webhooks.states import INBOUND_DONE, INBOUND_MOVES, INBOUND_WAITS, InboundOutcome


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
            *work_indexes("inbound_event", owner="organization"),
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
            # What a handler that comes later can still work.
            models.Index(
                name="inbound_event_ignored",
                fields=["organization", "connection", "type", "id"],
                condition=Q(outcome=InboundOutcome.IGNORED, sealed_body__isnull=False),
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
                condition=~Q(state=WorkState.DONE) | Q(outcome__in=INBOUND_DONE),
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
            Guard(
                name="inbound_event_is_released_to_be_worked",
                level=pgtrigger.Row,
                when=pgtrigger.Before,
                operation=pgtrigger.UpdateOf("outcome"),
                func=body(apps.webhooks.__file__, "inbound_event_is_released_to_be_worked"),
            ),
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
                func=body(apps.webhooks.__file__, "inbound_event_body_only_goes"),
            ),
            # Until then a repeat is known by this row.
            Guard(
                name="inbound_event_is_kept_for_400_days",
                level=pgtrigger.Row,
                when=pgtrigger.Before,
                operation=pgtrigger.Delete,
                func=body(apps.webhooks.__file__, "inbound_event_is_kept_for_400_days"),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.type} {self.outcome}"
