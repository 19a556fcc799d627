"""A customer's money on its way out, each of its moves, and what it costs."""

from typing import ClassVar, override

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import append_only, frozen_columns, moves_only, never_deleted
from apps.payouts.models.destinations import Destination, DestinationVersion
from apps.payouts.states import CLOSED, PAYOUT_MOVES, STATE_LENGTH, PayoutState


class Payout(OrganizationOwned):
    """
    A customer's money on its way out, held until the bank's statement shows it.

    The holds are named without a foreign key: they are placed by the last statement of a request,
    so that the hot balance rows are locked as briefly as can be. An invariant compares them.
    """

    customer = OwnedForeignKey("accounts.Customer")
    destination = OwnedForeignKey(Destination)
    destination_version = OwnedForeignKey(DestinationVersion)
    state = models.CharField(
        max_length=STATE_LENGTH, choices=PayoutState, default=PayoutState.REQUESTED
    )
    amount_minor = models.BigIntegerField(db_comment="What the customer gives up; fees are apart.")
    requested_amount_minor = models.BigIntegerField()
    fee_minor = models.BigIntegerField(default=0)
    returned_minor = models.BigIntegerField(default=0, db_comment="What the bank sent back.")
    currency = models.CharField(max_length=3)
    rail = models.CharField(max_length=8)
    hold_id = models.UUIDField()
    fee_hold_id = models.UUIDField(null=True)
    remittance = models.CharField(max_length=140, blank=True, default="")
    creditor_reference = models.CharField(max_length=25, blank=True, default="")
    external_id = models.CharField(max_length=100, null=True)  # noqa: DJ001  (NULL: none given)
    purpose = models.CharField(max_length=100, blank=True, default="")
    metadata = models.JSONField(default=dict)
    hold_reasons = ArrayField(models.CharField(max_length=32), default=list)
    available_at = models.DateTimeField(null=True, db_comment="When a cooldown lets it go on.")
    wished_date = models.DateField(null=True)
    execution_date = models.DateField(null=True)
    bank_account = OwnedForeignKey("banking.BankAccount", null=True)
    risk_decision = OwnedForeignKey("risk.Decision")
    approval_request = OwnedForeignKey("approvals.ApprovalRequest", null=True)
    agreed_digest = models.BinaryField(
        null=True, db_comment="SHA-256 of what was agreed to when it was approved."
    )
    failure_code = models.CharField(max_length=64, blank=True, default="")
    bank_code = models.CharField(max_length=35, blank=True, default="")
    requested_by = models.CharField(max_length=100)
    requester_principal = models.CharField(max_length=64)
    requested_at = models.DateTimeField()
    state_changed_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    event_sequence = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "payouts_payout"
        indexes: ClassVar = [
            models.Index(name="payout_of_customer", fields=["organization", "customer", "-id"]),
            models.Index(name="payout_requested", fields=["organization", "requested_at", "id"]),
            models.Index(
                name="payout_of_destination",
                fields=["organization", "destination", "requested_at"],
            ),
            models.Index(
                name="payout_scheduled",
                fields=["organization", "bank_account", "currency", "rail", "execution_date"],
                condition=Q(state=PayoutState.SCHEDULED),
            ),
            models.Index(
                name="payout_held", fields=["available_at"], condition=Q(state=PayoutState.HELD)
            ),
        ]
        constraints: ClassVar = [
            OwnedKey(name="payout_key"),
            SameOrganization(name="payout_owns_its_customer", field="customer"),
            SameOrganization(name="payout_owns_its_destination", field="destination"),
            SameOrganization(name="payout_owns_its_version", field="destination_version"),
            SameOrganization(name="payout_owns_its_bank_account", field="bank_account"),
            SameOrganization(name="payout_owns_its_decision", field="risk_decision"),
            SameOrganization(name="payout_owns_its_approval", field="approval_request"),
            models.UniqueConstraint(
                name="payout_external_id_is_unique", fields=["organization", "external_id"]
            ),
            models.UniqueConstraint(
                name="payout_has_its_own_hold", fields=["organization", "hold_id"]
            ),
            models.CheckConstraint(name="payout_moves_money", condition=Q(amount_minor__gt=0)),
            models.CheckConstraint(
                name="payout_asks_at_least_its_amount",
                condition=Q(requested_amount_minor__gte=F("amount_minor")),
            ),
            models.CheckConstraint(
                name="payout_fee_is_held_iff_there_is_one",
                condition=Q(fee_minor=0, fee_hold_id__isnull=True)
                | Q(fee_minor__gt=0, fee_hold_id__isnull=False),
            ),
            models.CheckConstraint(
                name="payout_state_is_known", condition=Q(state__in=PayoutState.values)
            ),
            models.CheckConstraint(
                name="payout_is_held_iff_it_has_reasons",
                condition=Q(state=PayoutState.HELD, hold_reasons__len__gt=0)
                | (~Q(state=PayoutState.HELD) & Q(hold_reasons__len=0)),
            ),
            models.CheckConstraint(
                name="payout_is_scheduled_for_a_day",
                condition=~Q(state=PayoutState.SCHEDULED)
                | Q(execution_date__isnull=False, bank_account__isnull=False),
            ),
            models.CheckConstraint(
                name="payout_is_closed_iff_at_rest",
                condition=Q(state__in=sorted(CLOSED), closed_at__isnull=False)
                | (~Q(state__in=sorted(CLOSED)) & Q(closed_at__isnull=True)),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("payouts_stay"),
            moves_only("payout_moves", moves=PAYOUT_MOVES),
            frozen_columns(
                "payout_is_what_was_asked",
                columns=[
                    "id",
                    "organization_id",
                    "customer_id",
                    "destination_id",
                    "destination_version_id",
                    "currency",
                    "rail",
                    "requester_principal",
                    "requested_at",
                ],
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"payout {self.id}"


class PayoutTransition(OrganizationOwned):
    """One move of one payout: from where, to where, by whom and why."""

    payout = OwnedForeignKey(Payout)
    number = models.PositiveIntegerField(db_comment="1, 2, 3 … within the payout.")
    from_state = models.CharField(max_length=STATE_LENGTH, blank=True)
    to_state = models.CharField(max_length=STATE_LENGTH, choices=PayoutState)
    actor = models.CharField(max_length=100)
    reason = models.CharField(max_length=500, blank=True, default="")
    occurred_at = models.DateTimeField()

    class Meta:
        db_table = "payouts_transition"
        constraints: ClassVar = [
            SameOrganization(name="payout_transition_owns_its_payout", field="payout"),
            models.UniqueConstraint(
                name="payout_transition_number_is_unique",
                fields=["organization", "payout", "number"],
            ),
        ]
        triggers: ClassVar = [append_only("payout_transitions_are_append_only")]


class PayoutPrice(OrganizationOwned):
    """What one payout by a rail costs from an instant on. Append-only: the newest one counts."""

    rail = models.CharField(max_length=8)
    currency = models.CharField(max_length=3)
    fee_minor = models.BigIntegerField()
    valid_from = models.DateTimeField()
    set_by = models.CharField(max_length=100)

    class Meta:
        db_table = "payouts_price"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="payout_price_is_one_per_instant",
                fields=["organization", "rail", "currency", "valid_from"],
            ),
            models.CheckConstraint(
                name="payout_price_is_not_negative", condition=Q(fee_minor__gte=0)
            ),
        ]
        triggers: ClassVar = [append_only("payout_prices_are_append_only")]
