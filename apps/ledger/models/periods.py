"""Accounting periods, and the totals that make reads of long histories short."""

from typing import ClassVar, Final, override

import pgtrigger
from django.db import models
from django.db.models import F, Q

import apps.ledger
from apps.core.constraints import OwnedKey
from apps.core.tenancy import OrganizationOwned
from apps.core.triggers import Guard, append_only, body, frozen_columns, moves_only, never_deleted
from apps.ledger.states import PERIOD_MOVES, PeriodState

_ADD_UP: Final = body(apps.ledger.__file__, "months_add_to_their_types")
# Of months that are written again, what they come to now less what they came to before.
_DIFFERENCE: Final = """(
    SELECT organization_id, account_id, clock, month, debits_minor, credits_minor, postings
      FROM written
     UNION ALL
    SELECT organization_id, account_id, clock, month, -debits_minor, -credits_minor, -postings
      FROM before
)"""

_REOPENING: Final = ("reopening_requested_by", "reopening_approved_by", "reopening_reason")


def _columns(row: str) -> str:
    return ", ".join(f"{row}.{column}" for column in _REOPENING)


class Period(OrganizationOwned):
    """A month of an organisation's books, once somebody asked to close it; others are open."""

    month = models.DateField(db_comment="Its first day, in the organisation's own zone.")
    starts_at = models.DateTimeField(db_comment="The month's first instant there; inclusive.")
    ends_at = models.DateTimeField(db_comment="The next month's first instant; exclusive.")
    state = models.CharField(
        max_length=7,
        choices=[(s.value, s.value) for s in PeriodState],
        default=PeriodState.OPEN.value,
    )
    closings = models.PositiveIntegerField(
        default=0, db_comment="How often it was closed; the number of the stored trial balance."
    )
    closing_after = models.BigIntegerField(
        null=True, db_comment="The transaction that said closing; older ones may still post."
    )
    requested_by = models.CharField(max_length=100, default="")
    approved_by = models.CharField(max_length=100, default="")
    closed_at = models.DateTimeField(null=True)
    # Of a month that was opened again, until it is closed once more: so that who opens it cannot
    # leave the names of those who closed it.
    reopening_requested_by = models.CharField(max_length=100, default="", db_default="")
    reopening_approved_by = models.CharField(max_length=100, default="", db_default="")
    reopening_reason = models.CharField(max_length=500, default="", db_default="")
    event_sequence = models.BigIntegerField(default=0)

    class Meta:
        db_table = "ledger_period"
        constraints: ClassVar = [
            OwnedKey(name="period_key"),
            models.UniqueConstraint(name="period_is_one_month", fields=["organization", "month"]),
            models.CheckConstraint(
                name="period_state_is_known", condition=Q(state__in=[s.value for s in PeriodState])
            ),
            models.CheckConstraint(
                name="period_has_its_length", condition=Q(ends_at__gt=F("starts_at"))
            ),
            models.CheckConstraint(
                name="period_is_closed_by_two",
                # One that is open was never closed, or two people closed it before.
                condition=Q(state="open", closings=0, requested_by="", approved_by="")
                | (~Q(requested_by="") & ~Q(approved_by="") & ~Q(requested_by=F("approved_by"))),
            ),
            models.CheckConstraint(
                name="period_is_reopened_by_two",
                condition=Q(
                    reopening_requested_by="", reopening_approved_by="", reopening_reason=""
                )
                | (
                    ~Q(state="closed")
                    & ~Q(reopening_requested_by="")
                    & ~Q(reopening_approved_by="")
                    & ~Q(reopening_requested_by=F("reopening_approved_by"))
                    & ~Q(reopening_reason="")
                ),
            ),
            models.CheckConstraint(
                name="period_closed_at_iff_closed",
                condition=Q(state="closed", closed_at__isnull=False)
                | (~Q(state="closed") & Q(closed_at__isnull=True)),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("periods_stay"),
            frozen_columns(
                "period_is_what_it_was",
                columns=["id", "organization_id", "month", "starts_at", "ends_at"],
            ),
            moves_only("period_moves", moves=PERIOD_MOVES),
            # By the CHECK above nobody is named of a closed month, and never one alone: so two are
            # named as it is opened again, and stay until it is closed.
            Guard(
                name="period_names_who_reopened_it",
                level=pgtrigger.Row,
                when=pgtrigger.Before,
                operation=pgtrigger.UpdateOf("state", *_REOPENING),
                func=(
                    "IF (OLD.state, NEW.state) = ('closed', 'open')"
                    " AND NEW.reopening_requested_by = ''"
                    f" OR ({_columns('OLD')}) IS DISTINCT FROM ({_columns('NEW')})"
                    " AND OLD.state <> 'closed' AND NEW.state <> 'closed' THEN"
                    " RAISE EXCEPTION 'period % from % to %: who opens it again is said then',"
                    " NEW.month, OLD.state, NEW.state USING ERRCODE = 'check_violation',"
                    " CONSTRAINT = 'period_names_who_reopened_it'; END IF; RETURN NEW;"
                ),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class PeriodBalance(models.Model):
    """One account's line of the trial balance that was stored as a period was closed."""

    pk = models.CompositePrimaryKey("organization_id", "month", "closing", "account_id")
    organization_id = models.UUIDField()
    month = models.DateField()
    closing = models.PositiveIntegerField(db_comment="1 for the first time it was closed ...")
    account_id = models.UUIDField()
    opening_minor = models.BigIntegerField(db_comment="Before the month; debit positive.")
    debits_minor = models.BigIntegerField(db_comment="Of the month.")
    credits_minor = models.BigIntegerField(db_comment="Of the month, positive.")

    class Meta:
        db_table = "ledger_period_balance"
        triggers: ClassVar = [append_only("period_balances_are_append_only")]


class MonthlyTotal(models.Model):
    """
    What an account's sealed postings come to in one UTC month, by one of the two clocks.

    Written as entries are sealed, and a checkpoint for reads: older months are summed from here,
    and only a part of one month from postings. `verify_ledger` recomputes every row.
    """

    pk = models.CompositePrimaryKey("organization_id", "account_id", "clock", "month")
    organization_id = models.UUIDField()
    account_id = models.UUIDField()
    clock = models.CharField(max_length=9, db_comment="effective or recorded.")
    month = models.DateField()
    debits_minor = models.BigIntegerField()
    credits_minor = models.BigIntegerField(db_comment="Positive.")
    postings = models.BigIntegerField()
    first_version = models.BigIntegerField(db_comment="The lowest account_version among them.")
    last_version = models.BigIntegerField(db_comment="The highest; by recorded, all up to it.")

    class Meta:
        db_table = "ledger_monthly_total"
        indexes: ClassVar = [
            models.Index(
                name="monthly_total_of_clock",
                fields=["organization_id", "clock", "month", "account_id"],
            ),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="monthly_total_clock_is_known",
                condition=Q(clock__in=["effective", "recorded"]),
            ),
        ]
        triggers: ClassVar = [
            Guard(
                name="months_add_to_their_types",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                referencing=pgtrigger.Referencing(new="written"),
                func=_ADD_UP.replace("{changed}", "written"),
            ),
            Guard(
                name="months_change_their_types",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Update,
                referencing=pgtrigger.Referencing(old="before", new="written"),
                func=_ADD_UP.replace("{changed}", _DIFFERENCE),
            ),
        ]


class TypeTotal(models.Model):
    """
    What the accounts of one type come to in a currency and a UTC month: the sum of their totals.

    Few rows, however many accounts there are, so that sums over all of them need not read each.
    Triggers of `MonthlyTotal` write it; `verify_ledger` adds it up again.
    """

    pk = models.CompositePrimaryKey("organization_id", "clock", "month", "currency", "type")
    organization_id = models.UUIDField()
    clock = models.CharField(max_length=9, db_comment="effective or recorded.")
    month = models.DateField()
    currency = models.CharField(max_length=3)
    type = models.CharField(max_length=9)
    # What many accounts come to may be more than a bigint holds.
    debits_minor = models.DecimalField(max_digits=38, decimal_places=0)
    credits_minor = models.DecimalField(max_digits=38, decimal_places=0, db_comment="Positive.")
    postings = models.BigIntegerField()

    class Meta:
        db_table = "ledger_type_total"
