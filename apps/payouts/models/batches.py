"""Instructions to a bank, the files they leave in, and the next step of each."""

from typing import ClassVar, override

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

import apps.payouts
from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import Guard, body, frozen_columns, moves_only, never_deleted
from apps.core.work import WorkRow, work_indexes
from apps.payouts.models.destinations import DestinationVersion
from apps.payouts.models.payouts import Payout
from apps.payouts.states import ATTEMPT_MOVES, BATCH_MOVES, STATE_LENGTH, AttemptState, BatchState


class PayoutBatch(OrganizationOwned):
    """Attempts that leave in one file; its ids and sums are given at the freeze, for good."""

    bank_account = OwnedForeignKey("banking.BankAccount")
    currency = models.CharField(max_length=3)
    rail = models.CharField(max_length=8)
    execution_date = models.DateField()
    state = models.CharField(max_length=STATE_LENGTH, choices=BatchState, default=BatchState.FROZEN)
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
        max_length=STATE_LENGTH, choices=AttemptState, default=AttemptState.BATCHED
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
                    func=body(apps.payouts.__file__, "live_attempts_fit_their_payout"),
                )
                for verb, operation in (("i", pgtrigger.Insert), ("u", pgtrigger.Update))
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"attempt {self.end_to_end_id}"


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
