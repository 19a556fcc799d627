"""Destinations, payouts, their attempts and batches, and what the bank answered."""

from typing import ClassVar, override

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from apps.core.constraints import OwnedKey, SameOrganization, TiedCopy
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import (
    Guard,
    append_only,
    body,
    frozen_columns,
    moves_only,
    never_deleted,
)
from apps.core.work import WorkRow, work_indexes
from apps.payouts.states import (
    ATTEMPT_MOVES,
    BANK_FACT_MOVES,
    BATCH_MOVES,
    CLOSED,
    DESTINATION_MOVES,
    PAYOUT_MOVES,
    AttemptState,
    BankFactState,
    BatchState,
    DestinationState,
    PayoutState,
)

_STATE_LENGTH = 24


class Destination(OrganizationOwned):
    """One bank account of one customer. What it is stands in its versions, which never change."""

    customer = OwnedForeignKey("accounts.Customer")
    state = models.CharField(
        max_length=_STATE_LENGTH, choices=DestinationState, default=DestinationState.UNVERIFIED
    )
    state_reason = models.CharField(max_length=100, blank=True, default="")
    event_sequence = models.PositiveIntegerField(default=0)
    created_by = models.CharField(max_length=100)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "payouts_destination"
        indexes: ClassVar = [
            models.Index(name="destination_of_customer", fields=["organization", "customer", "-id"])
        ]
        constraints: ClassVar = [
            OwnedKey(name="destination_key"),
            SameOrganization(name="destination_owns_its_customer", field="customer"),
            models.UniqueConstraint(
                name="destination_has_one_customer", fields=["organization", "id", "customer"]
            ),
            models.CheckConstraint(
                name="destination_state_is_known", condition=Q(state__in=DestinationState.values)
            ),
        ]
        triggers: ClassVar = [
            never_deleted("destinations_stay"),
            moves_only("destination_moves", moves=DESTINATION_MOVES),
            frozen_columns(
                "destination_is_one_customers",
                columns=["id", "organization_id", "customer_id", "created_at"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"destination {self.id}"


class DestinationVersion(OrganizationOwned):
    """
    Where the money goes, exactly; a payout pins the version it was made with.

    `holder_digest` stands for the encrypted name in snapshots and in the guard: a ciphertext may
    change when keys rotate, what it says may not.
    """

    destination = OwnedForeignKey(Destination)
    customer = OwnedForeignKey("accounts.Customer")
    number = models.PositiveIntegerField()
    fingerprint = models.BinaryField(db_comment="HMAC-SHA256 of the normalised IBAN.")
    iban_sealed = models.BinaryField()
    iban_tail = models.CharField(max_length=4)
    country = models.CharField(max_length=2)
    bic = models.CharField(max_length=11, blank=True, default="")
    currency = models.CharField(max_length=3)
    holder_sealed = models.BinaryField()
    holder_digest = models.BinaryField()
    address_sealed = models.BinaryField(null=True)
    address_digest = models.BinaryField(null=True)
    usable_from = models.DateTimeField(db_comment="End of the cooldown.")
    retired_at = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=100)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "payouts_destination_version"
        constraints: ClassVar = [
            OwnedKey(name="destination_version_key"),
            TiedCopy(
                name="destination_version_owns_its_destination",
                field="destination",
                copies=["customer"],
            ),
            models.UniqueConstraint(
                name="destination_version_number_is_unique",
                fields=["organization", "destination", "number"],
            ),
            models.UniqueConstraint(
                name="destination_version_in_use_is_one",
                fields=["organization", "destination"],
                condition=Q(retired_at__isnull=True),
            ),
            models.UniqueConstraint(
                name="destination_fingerprint_in_use_is_one",
                fields=["organization", "customer", "fingerprint"],
                condition=Q(retired_at__isnull=True),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("destination_versions_stay"),
            frozen_columns(
                "destination_version_is_what_it_was",
                columns=[
                    "id",
                    "organization_id",
                    "destination_id",
                    "customer_id",
                    "number",
                    "fingerprint",
                    "iban_tail",
                    "country",
                    "bic",
                    "currency",
                    "holder_digest",
                    "address_digest",
                    "created_at",
                ],
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"…{self.iban_tail}"


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
        max_length=_STATE_LENGTH, choices=PayoutState, default=PayoutState.REQUESTED
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
    from_state = models.CharField(max_length=_STATE_LENGTH, blank=True)
    to_state = models.CharField(max_length=_STATE_LENGTH, choices=PayoutState)
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


class PayoutBatch(OrganizationOwned):
    """Attempts that leave in one file; its ids and sums are given at the freeze, for good."""

    bank_account = OwnedForeignKey("banking.BankAccount")
    currency = models.CharField(max_length=3)
    rail = models.CharField(max_length=8)
    execution_date = models.DateField()
    state = models.CharField(
        max_length=_STATE_LENGTH, choices=BatchState, default=BatchState.FROZEN
    )
    message_id = models.CharField(max_length=35)
    payment_information_id = models.CharField(max_length=35)
    attempt_count = models.PositiveIntegerField()
    total_minor = models.BigIntegerField()
    frozen_by = models.CharField(max_length=100)
    frozen_at = models.DateTimeField(db_comment="Whole seconds; the file's CreDtTm.")
    file = OwnedForeignKey("banking.BankFile", null=True)
    file_sha256 = models.BinaryField(null=True)
    exported_at = models.DateTimeField(null=True)
    send_started_at = models.DateTimeField(
        null=True, db_comment="From here on the bank may have it, whatever we know."
    )
    submitted_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "payouts_batch"
        indexes: ClassVar = [
            models.Index(name="payout_batch_newest", fields=["organization", "-id"])
        ]
        constraints: ClassVar = [
            OwnedKey(name="payout_batch_key"),
            SameOrganization(name="payout_batch_owns_its_bank_account", field="bank_account"),
            SameOrganization(name="payout_batch_owns_its_file", field="file"),
            models.UniqueConstraint(
                name="payout_batch_message_id_is_unique", fields=["organization", "message_id"]
            ),
            models.UniqueConstraint(
                name="payout_batch_payment_id_is_unique",
                fields=["organization", "payment_information_id"],
            ),
            models.UniqueConstraint(
                name="payout_batch_file_is_its_own", fields=["organization", "file"]
            ),
            models.CheckConstraint(
                name="payout_batch_state_is_known", condition=Q(state__in=BatchState.values)
            ),
            models.CheckConstraint(
                name="payout_batch_holds_something",
                condition=Q(attempt_count__gt=0, total_minor__gt=0),
            ),
            models.CheckConstraint(
                name="payout_batch_has_its_file_once_exported",
                condition=Q(state__in=["frozen", "released", "voided"])
                | Q(file__isnull=False, file_sha256__isnull=False),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("payout_batches_stay"),
            moves_only("payout_batch_moves", moves=BATCH_MOVES),
            frozen_columns(
                "payout_batch_is_what_was_frozen",
                columns=[
                    "id",
                    "organization_id",
                    "bank_account_id",
                    "currency",
                    "rail",
                    "execution_date",
                    "message_id",
                    "payment_information_id",
                    "attempt_count",
                    "total_minor",
                    "frozen_at",
                ],
            ),
            Guard(
                name="payout_batch_keeps_its_file",
                level=pgtrigger.Row,
                when=pgtrigger.Before,
                operation=pgtrigger.UpdateOf("file_id", "file_sha256"),
                func=(
                    "IF OLD.file_id IS NOT NULL AND (OLD.file_id, OLD.file_sha256) IS DISTINCT"
                    " FROM (NEW.file_id, NEW.file_sha256) THEN"
                    " RAISE EXCEPTION 'a batch has one file' USING ERRCODE = 'restrict_violation',"
                    " CONSTRAINT = 'payout_batch_keeps_its_file'; END IF; RETURN NEW;"
                ),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"batch {self.message_id}"


class PayoutAttempt(OrganizationOwned):
    """One instruction to a bank, and everything that became of it."""

    payout = OwnedForeignKey(Payout)
    batch = OwnedForeignKey(PayoutBatch)
    destination_version = OwnedForeignKey(DestinationVersion)
    number_in_file = models.PositiveIntegerField()
    state = models.CharField(
        max_length=_STATE_LENGTH, choices=AttemptState, default=AttemptState.BATCHED
    )
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    end_to_end_id = models.CharField(max_length=35)
    sent_sealed = models.BinaryField(db_comment="JSON of what the file says: name, remittance, …")
    changed_fields = ArrayField(
        models.CharField(max_length=32), default=list, db_comment="Converted or cut for the bank."
    )
    capture_entry_id = models.UUIDField(null=True)
    fee_capture_entry_id = models.UUIDField(null=True)
    reversal_entry_id = models.UUIDField(null=True)
    settle_entry_id = models.UUIDField(null=True)
    settled_line_id = models.UUIDField(null=True, db_comment="The bank line that showed it.")
    return_entry_id = models.UUIDField(null=True)
    returned_line_id = models.UUIDField(null=True)
    returned_minor = models.BigIntegerField(default=0)
    bank_status = models.CharField(max_length=8, blank=True, default="")
    reason_code = models.CharField(max_length=35, blank=True, default="")
    reason_text = models.CharField(max_length=500, blank=True, default="")
    state_changed_at = models.DateTimeField()

    class Meta:
        db_table = "payouts_attempt"
        indexes: ClassVar = [
            models.Index(name="payout_attempt_of_payout", fields=["organization", "payout"]),
            models.Index(
                name="payout_attempt_of_version", fields=["organization", "destination_version"]
            ),
        ]
        constraints: ClassVar = [
            OwnedKey(name="payout_attempt_key"),
            SameOrganization(name="payout_attempt_owns_its_payout", field="payout"),
            SameOrganization(name="payout_attempt_owns_its_batch", field="batch"),
            SameOrganization(name="payout_attempt_owns_its_version", field="destination_version"),
            models.UniqueConstraint(
                name="payout_attempt_end_to_end_id_is_unique",
                fields=["organization", "end_to_end_id"],
            ),
            models.UniqueConstraint(
                name="payout_attempt_number_is_unique",
                fields=["organization", "batch", "number_in_file"],
            ),
            models.CheckConstraint(
                name="payout_attempt_moves_money", condition=Q(amount_minor__gt=0)
            ),
            models.CheckConstraint(
                name="payout_attempt_state_is_known", condition=Q(state__in=AttemptState.values)
            ),
            models.CheckConstraint(
                name="payout_attempt_is_settled_by_a_line_and_an_entry",
                condition=~Q(state__in=["settled", "returned"])
                | Q(settled_line_id__isnull=False, settle_entry_id__isnull=False),
            ),
            models.CheckConstraint(
                name="payout_attempt_is_captured_once_submitted",
                condition=~Q(state__in=["submitted", "settled", "returned"])
                | Q(capture_entry_id__isnull=False),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("payout_attempts_stay"),
            moves_only("payout_attempt_moves", moves=ATTEMPT_MOVES),
            frozen_columns(
                "payout_attempt_is_what_was_frozen",
                columns=[
                    "id",
                    "organization_id",
                    "payout_id",
                    "batch_id",
                    "destination_version_id",
                    "number_in_file",
                    "amount_minor",
                    "currency",
                    "end_to_end_id",
                ],
            ),
            *(
                Guard(
                    name=f"live_attempts_fit_their_payout_{verb}",
                    level=pgtrigger.Statement,
                    when=pgtrigger.After,
                    operation=operation,
                    referencing=pgtrigger.Referencing(new="written"),
                    declare=[("excess", "record")],
                    func=body(__file__, "live_attempts_fit_their_payout"),
                )
                for verb, operation in (("i", pgtrigger.Insert), ("u", pgtrigger.Update))
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"attempt {self.end_to_end_id}"


class BankFact(OrganizationOwned):
    """
    One thing the bank said of a payout, and what became of it.

    `desk` names who has to look at it; "nobody" needs no one.
    """

    kind = models.CharField(max_length=10, db_comment="status, settlement or return.")
    state = models.CharField(max_length=_STATE_LENGTH, choices=BankFactState)
    batch = OwnedForeignKey(PayoutBatch, null=True)
    attempt = OwnedForeignKey(PayoutAttempt, null=True)
    bank_file_id = models.UUIDField(null=True)
    bank_line_id = models.UUIDField(null=True)
    position = models.PositiveIntegerField(default=0, db_comment="Place in the file.")
    end_to_end_id = models.CharField(max_length=35, blank=True, default="")
    bank_status = models.CharField(max_length=8, blank=True, default="")
    reason_code = models.CharField(max_length=35, blank=True, default="")
    reason_text = models.CharField(max_length=500, blank=True, default="")
    amount_minor = models.BigIntegerField(null=True)
    currency = models.CharField(max_length=3, blank=True, default="")
    desk = models.CharField(max_length=16, default="nobody")
    looked_at = models.DateTimeField(null=True)
    recorded_at = models.DateTimeField()

    class Meta:
        db_table = "payouts_bank_fact"
        indexes: ClassVar = [
            models.Index(name="bank_fact_of_attempt", fields=["organization", "attempt"]),
            models.Index(
                name="bank_fact_to_look_at",
                fields=["organization", "desk", "id"],
                condition=~Q(desk="nobody") & Q(looked_at__isnull=True),
            ),
        ]
        constraints: ClassVar = [
            SameOrganization(name="bank_fact_owns_its_batch", field="batch"),
            SameOrganization(name="bank_fact_owns_its_attempt", field="attempt"),
            models.UniqueConstraint(
                name="bank_fact_of_a_line_is_one",
                fields=["organization", "kind", "bank_line_id", "position"],
                condition=Q(bank_line_id__isnull=False),
            ),
            models.UniqueConstraint(
                name="bank_fact_of_a_file_is_one",
                fields=["organization", "bank_file_id", "position"],
                condition=Q(bank_file_id__isnull=False),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("bank_facts_stay"),
            moves_only("bank_fact_moves", moves=BANK_FACT_MOVES),
        ]


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


class BatchWork(WorkRow):
    """The next thing to do with a batch: release and export it, send it, ask what became of it."""

    organization_id = models.UUIDField()
    batch_id = models.UUIDField()
    step = models.CharField(max_length=8)

    class Meta:
        db_table = "payouts_batch_work"
        indexes: ClassVar = work_indexes("payout_batch_work", owner="organization_id")
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="payout_batch_work_is_one_per_step",
                fields=["organization_id", "batch_id", "step"],
            )
        ]
