"""What the bank said."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from apps.core.constraints import SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import moves_only, never_deleted
from apps.payouts.models.batches import PayoutAttempt, PayoutBatch
from apps.payouts.states import BANK_FACT_MOVES, STATE_LENGTH, BankFactState


class BankFact(OrganizationOwned):
    """
    One thing the bank said of a payout, and what became of it.

    `desk` names who has to look at it; "nobody" needs no one.
    """

    kind = models.CharField(max_length=10, db_comment="status, settlement or return.")
    state = models.CharField(max_length=STATE_LENGTH, choices=BankFactState)
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
