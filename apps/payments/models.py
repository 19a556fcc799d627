"""Money in: what customers are paid under, what came, and what nobody owns yet."""

from typing import ClassVar, override

from django.db import models
from django.db.models import Q

from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import frozen_columns, moves_only, never_deleted
from apps.payments.states import (
    PAYMENT_MOVES,
    REFERENCE_MOVES,
    UNMATCHED_MOVES,
    Method,
    PaymentState,
    ReferenceState,
    UnmatchedReason,
    UnmatchedState,
)


class VirtualReference(OrganizationOwned):
    """A creditor reference (ISO 11649) of one customer: all money under it is theirs, for ever."""

    customer = OwnedForeignKey("accounts.Customer")
    ledger_account = OwnedForeignKey("ledger.LedgerAccount")
    reference = models.CharField(max_length=25)
    currency = models.CharField(max_length=3)
    label = models.CharField(max_length=100, default="")
    state = models.CharField(max_length=8, choices=ReferenceState, default=ReferenceState.ACTIVE)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "payments_virtual_reference"
        indexes: ClassVar = [
            models.Index(name="virtual_reference_of", fields=["organization", "customer"]),
            models.Index(
                name="virtual_reference_made", fields=["organization", "created_at", "id"]
            ),
        ]
        constraints: ClassVar = [
            OwnedKey(name="virtual_reference_key"),
            SameOrganization(name="virtual_reference_owns_its_customer", field="customer"),
            SameOrganization(name="virtual_reference_owns_its_account", field="ledger_account"),
            models.UniqueConstraint(
                name="virtual_reference_is_unique", fields=["organization", "reference"]
            ),
            models.CheckConstraint(
                name="virtual_reference_is_rf_and_digits",
                condition=Q(reference__regex="^RF[0-9]{3,23}$"),
            ),
            models.CheckConstraint(
                name="virtual_reference_state_is_known",
                condition=Q(state__in=ReferenceState.values),
            ),
        ]
        triggers: ClassVar = [
            # Never deleted and never changed: so it is never given to another customer.
            never_deleted("virtual_references_stay"),
            moves_only("virtual_reference_moves", moves=REFERENCE_MOVES),
            frozen_columns(
                "virtual_reference_is_for_ever",
                columns=["id", "organization_id", "customer_id", "reference", "currency"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.reference


class Payment(OrganizationOwned):
    """Money that came in for a customer. By bank transfer, it is final once the bank booked it."""

    customer = OwnedForeignKey("accounts.Customer")
    virtual_reference = OwnedForeignKey(VirtualReference, null=True)
    bank_line = OwnedForeignKey("banking.BankLine", null=True)
    bank_line_detail = OwnedForeignKey("banking.BankLineDetail", null=True)
    # Looked after by an invariant: entries carry no second key to point at.
    entry = OwnedForeignKey("ledger.JournalEntry")
    method = models.CharField(max_length=16, choices=Method)
    state = models.CharField(max_length=16, choices=PaymentState)
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    sender_tail = models.CharField(max_length=4, default="")
    sender_index = models.BinaryField(null=True, db_comment="Blind index of the sender's account.")
    received_at = models.DateTimeField(db_comment="The bank's booking date, as an instant.")
    created_at = models.DateTimeField()
    event_sequence = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "payments_payment"
        indexes: ClassVar = [
            models.Index(name="payment_of_customer", fields=["organization", "customer", "-id"]),
            models.Index(name="payment_made", fields=["organization", "created_at", "id"]),
        ]
        constraints: ClassVar = [
            OwnedKey(name="payment_key"),
            SameOrganization(name="payment_owns_its_customer", field="customer"),
            SameOrganization(name="payment_owns_its_reference", field="virtual_reference"),
            SameOrganization(name="payment_owns_its_bank_line", field="bank_line"),
            SameOrganization(name="payment_owns_its_detail", field="bank_line_detail"),
            models.UniqueConstraint(
                name="payment_is_of_one_bank_line",
                fields=["organization", "bank_line", "bank_line_detail"],
                condition=Q(bank_line__isnull=False),
                nulls_distinct=False,
            ),
            models.CheckConstraint(name="payment_moves_money", condition=Q(amount_minor__gt=0)),
            models.CheckConstraint(
                name="payment_state_is_known", condition=Q(state__in=PaymentState.values)
            ),
            models.CheckConstraint(
                name="payment_by_transfer_has_a_bank_line",
                condition=~Q(method="bank_transfer") | Q(bank_line__isnull=False),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("payments_stay"),
            moves_only("payment_moves", moves=PAYMENT_MOVES),
            frozen_columns(
                "payment_is_what_came",
                columns=[
                    "id",
                    "organization_id",
                    "customer_id",
                    "amount_minor",
                    "currency",
                    "entry_id",
                    "bank_line_id",
                    "bank_line_detail_id",
                ],
            ),
        ]

    @override
    def __str__(self) -> str:
        return str(self.pk)


class UnmatchedMoney(OrganizationOwned):
    """Money that came in and is nobody's yet: in `suspense:in`, with the reason and an age."""

    bank_line = OwnedForeignKey("banking.BankLine")
    bank_line_detail = OwnedForeignKey("banking.BankLineDetail", null=True)
    payment = OwnedForeignKey(Payment, null=True)
    entry = OwnedForeignKey("ledger.JournalEntry")
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    reason = models.CharField(max_length=24, choices=UnmatchedReason)
    candidates = models.JSONField(default=list, db_comment="Ids of references it may be meant for.")
    state = models.CharField(max_length=9, choices=UnmatchedState, default=UnmatchedState.OPEN)
    received_at = models.DateTimeField(db_comment="The bank's booking date, as an instant.")
    created_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "payments_unmatched_money"
        verbose_name_plural = "unmatched money"
        indexes: ClassVar = [
            models.Index(
                name="unmatched_money_open",
                fields=["organization", "received_at"],
                condition=Q(state="open"),
            ),
            models.Index(name="unmatched_money_made", fields=["organization", "created_at", "id"]),
        ]
        constraints: ClassVar = [
            OwnedKey(name="unmatched_money_key"),
            SameOrganization(name="unmatched_money_owns_its_bank_line", field="bank_line"),
            SameOrganization(name="unmatched_money_owns_its_detail", field="bank_line_detail"),
            SameOrganization(name="unmatched_money_owns_its_payment", field="payment"),
            models.UniqueConstraint(
                name="unmatched_money_is_of_one_bank_line",
                fields=["organization", "bank_line", "bank_line_detail"],
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="unmatched_money_is_money", condition=Q(amount_minor__gt=0)
            ),
            models.CheckConstraint(
                name="unmatched_money_state_is_known", condition=Q(state__in=UnmatchedState.values)
            ),
            models.CheckConstraint(
                name="unmatched_money_is_closed_iff_not_open",
                condition=Q(state="open", closed_at__isnull=True)
                | (~Q(state="open") & Q(closed_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="unmatched_money_has_a_payment_iff_assigned",
                condition=Q(state="assigned", payment__isnull=False)
                | (~Q(state="assigned") & Q(payment__isnull=True)),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("unmatched_money_stays"),
            moves_only("unmatched_money_moves", moves=UNMATCHED_MOVES),
            frozen_columns(
                "unmatched_money_is_what_came",
                columns=["id", "organization_id", "bank_line_id", "amount_minor", "currency"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.amount_minor} {self.currency}, {self.reason}"
