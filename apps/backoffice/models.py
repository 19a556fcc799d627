"""What the charts read, which checks were run, and the corrections that people asked for."""

from typing import ClassVar, override

from django.db import models
from django.db.models import F, Q

from apps.backoffice.states import CORRECTION_MOVES, CorrectionState
from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.ids import new_id
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import append_only, frozen_columns, moves_only, never_deleted


class Metric(models.TextChoices):
    """What is counted; money in minor units of its currency."""

    MONEY_IN = "money_in"
    MONEY_OUT = "money_out"


class DailyMetric(OrganizationOwned):
    """One figure of one organization on one day, in one currency; a copy, never the truth."""

    day = models.DateField()
    name = models.CharField(max_length=32, choices=Metric)
    currency = models.CharField(max_length=3)
    value = models.BigIntegerField()
    rolled_up_at = models.DateTimeField()

    class Meta:
        db_table = "backoffice_daily_metric"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="daily_metric_is_one", fields=["organization", "day", "name", "currency"]
            ),
            models.CheckConstraint(
                name="daily_metric_is_known", condition=Q(name__in=Metric.values)
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.name} on {self.day}"


class InvariantCheck(models.Model):
    """
    A run of the invariants: when, how many are answered, and which did not hold as last seen.

    Large books take several runs to be gone through; each goes on where the one before ended.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    checked_at = models.DateTimeField()
    statement_count = models.PositiveIntegerField()
    broken = models.JSONField(default=list, db_comment="Names of those that returned a row.")
    unanswered = models.JSONField(
        default=list, db_comment="Names of those of which nothing is known, or not of all rows."
    )
    next_name = models.CharField(
        max_length=100, default="", db_comment="Where the next run goes on; empty: at the first."
    )
    next_organization_id = models.UUIDField(null=True)
    next_key = models.UUIDField(null=True)
    next_is_cut = models.BooleanField(
        default=False,
        db_default=False,
        db_comment="Whether a part of that one was left out: its statement took too long.",
    )

    class Meta:
        db_table = "backoffice_invariant_check"
        triggers: ClassVar = [append_only("invariant_checks_are_append_only")]

    @override
    def __str__(self) -> str:
        return f"{self.statement_count} statements at {self.checked_at}"


class CorrectionKind(models.TextChoices):
    """An entry undone, or one posted by hand."""

    REVERSAL = "reversal"
    ADJUSTMENT = "adjustment"


class Correction(OrganizationOwned):
    """
    An entry that somebody asked for by hand, and what another person made of it.

    `legs` is what it would post: account, code, currency, and minor units, debit positive.
    """

    kind = models.CharField(max_length=10, choices=CorrectionKind)
    entry = OwnedForeignKey("ledger.JournalEntry", null=True)
    at = models.CharField(max_length=8, default="", db_comment="A reversal's: now or original.")
    legs = models.JSONField()
    reference = models.CharField(max_length=255, default="")
    description = models.CharField(max_length=500, default="")
    effective_at = models.DateTimeField(null=True, db_comment="NULL: when it is agreed to.")
    reason = models.CharField(max_length=500)
    state = models.CharField(max_length=7, choices=CorrectionState, default=CorrectionState.WAITING)
    requested_by = models.CharField(max_length=100, db_comment="The person's principal.")
    requested_at = models.DateTimeField()
    approved_by = models.CharField(max_length=100, default="")
    posted = OwnedForeignKey("ledger.JournalEntry", null=True)
    closed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "backoffice_correction"
        constraints: ClassVar = [
            OwnedKey(name="correction_key"),
            SameOrganization(name="correction_owns_its_entry", field="entry"),
            SameOrganization(name="correction_owns_what_it_posted", field="posted"),
            models.UniqueConstraint(
                name="entry_waits_for_one_reversal",
                fields=["organization", "entry"],
                condition=Q(state=CorrectionState.WAITING, entry__isnull=False),
            ),
            models.CheckConstraint(
                name="correction_is_of_an_entry_iff_reversal",
                condition=Q(kind=CorrectionKind.REVERSAL, entry__isnull=False, at__gt="")
                | Q(kind=CorrectionKind.ADJUSTMENT, entry__isnull=True, at=""),
            ),
            models.CheckConstraint(
                name="correction_is_posted_by_two",
                condition=(
                    Q(state=CorrectionState.POSTED, posted__isnull=False)
                    & ~Q(approved_by="")
                    & ~Q(approved_by=F("requested_by"))
                )
                | (~Q(state=CorrectionState.POSTED) & Q(posted__isnull=True, approved_by="")),
            ),
            models.CheckConstraint(
                name="correction_is_closed_iff_final",
                condition=Q(state=CorrectionState.WAITING, closed_at__isnull=True)
                | Q(
                    state__in=[CorrectionState.POSTED, CorrectionState.DROPPED],
                    closed_at__isnull=False,
                ),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("corrections_stay"),
            moves_only("correction_moves", moves=CORRECTION_MOVES),
            frozen_columns(
                "correction_is_what_was_asked",
                columns=[
                    "id",
                    "organization_id",
                    "kind",
                    "entry_id",
                    "at",
                    "legs",
                    "reference",
                    "description",
                    "effective_at",
                    "reason",
                    "requested_by",
                    "requested_at",
                ],
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.kind} asked for at {self.requested_at}"
