"""Which bank line is what, and what cannot be explained."""

from typing import ClassVar, override

from django.db import models
from django.db.models import Q

from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import append_only, frozen_columns, moves_only, never_deleted
from apps.reconciliation.states import (
    BREAK_MOVES,
    MATCH_MOVES,
    OPENING_MOVES,
    BreakKind,
    BreakState,
    MatchState,
    OpeningState,
    Resolution,
    Rule,
    TargetKind,
)


class Match(OrganizationOwned):
    """A bank line, or one transaction of it, and what it is; its targets are its legs."""

    bank_line = OwnedForeignKey("banking.BankLine")
    bank_line_detail = OwnedForeignKey("banking.BankLineDetail", null=True)
    rule = models.CharField(max_length=16, choices=Rule)
    state = models.CharField(max_length=6, choices=MatchState, default=MatchState.LIVE)
    amount_minor = models.BigIntegerField(db_comment="The line's own, a credit positive.")
    currency = models.CharField(max_length=3)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "reconciliation_match"
        verbose_name_plural = "matches"
        indexes: ClassVar = [
            models.Index(name="match_of_line", fields=["organization", "bank_line", "id"]),
            models.Index(name="match_made", fields=["organization", "created_at", "id"]),
        ]
        constraints: ClassVar = [
            OwnedKey(name="match_key"),
            SameOrganization(name="match_owns_its_line", field="bank_line"),
            SameOrganization(name="match_owns_its_detail", field="bank_line_detail"),
            models.UniqueConstraint(
                name="match_of_a_line_is_one",
                fields=["organization", "bank_line", "bank_line_detail"],
                condition=Q(state="live"),
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="match_state_is_known", condition=Q(state__in=MatchState.values)
            ),
            models.CheckConstraint(name="match_rule_is_known", condition=Q(rule__in=Rule.values)),
        ]
        triggers: ClassVar = [
            never_deleted("matches_stay"),
            moves_only("match_moves", moves=MATCH_MOVES),
            frozen_columns(
                "match_is_of_its_line",
                columns=["id", "organization_id", "bank_line_id", "bank_line_detail_id", "rule"],
            ),
        ]


class MatchLeg(OrganizationOwned):
    """One target of a match: an attempt of a payout, its return, or a payment."""

    match = OwnedForeignKey(Match)
    target_kind = models.CharField(max_length=16, choices=TargetKind)
    target_id = models.UUIDField()

    class Meta:
        db_table = "reconciliation_match_leg"
        constraints: ClassVar = [
            SameOrganization(name="match_leg_owns_its_match", field="match"),
            models.UniqueConstraint(
                name="match_leg_names_its_target_once",
                fields=["organization", "match", "target_kind", "target_id"],
            ),
            models.CheckConstraint(
                name="match_leg_target_kind_is_known",
                condition=Q(target_kind__in=TargetKind.values),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                name="match_leg_of_target", fields=["organization", "target_kind", "target_id"]
            )
        ]
        triggers: ClassVar = [append_only("match_legs_are_append_only")]


class Break(OrganizationOwned):
    """What bank and books do not agree about, with an age; closed with a reason only."""

    kind = models.CharField(max_length=24, choices=BreakKind)
    bank_account = OwnedForeignKey("banking.BankAccount")
    bank_line = OwnedForeignKey("banking.BankLine", null=True)
    bank_line_detail = OwnedForeignKey("banking.BankLineDetail", null=True)
    statement = OwnedForeignKey("banking.BankStatement", null=True)
    amount_minor = models.BigIntegerField(null=True)
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=13, choices=BreakState, default=BreakState.OPEN)
    resolution = models.CharField(max_length=18, choices=Resolution, default="")
    reason = models.CharField(max_length=500, default="")
    event_sequence = models.PositiveIntegerField(default=0)
    first_seen_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "reconciliation_break"
        indexes: ClassVar = [
            models.Index(
                name="break_open",
                fields=["organization", "bank_account", "first_seen_at"],
                condition=~Q(state="resolved"),
            ),
            models.Index(name="break_first_seen", fields=["organization", "first_seen_at", "id"]),
        ]
        constraints: ClassVar = [
            OwnedKey(name="break_key"),
            SameOrganization(name="break_owns_its_account", field="bank_account"),
            SameOrganization(name="break_owns_its_line", field="bank_line"),
            SameOrganization(name="break_owns_its_detail", field="bank_line_detail"),
            SameOrganization(name="break_owns_its_statement", field="statement"),
            models.UniqueConstraint(
                name="break_of_a_cause_is_one",
                fields=["organization", "kind", "bank_line", "bank_line_detail", "statement"],
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="break_kind_is_known", condition=Q(kind__in=BreakKind.values)
            ),
            models.CheckConstraint(
                name="break_has_a_cause",
                condition=Q(bank_line__isnull=False) | Q(statement__isnull=False),
            ),
            models.CheckConstraint(
                name="break_is_resolved_with_a_reason",
                condition=(Q(state="resolved", resolved_at__isnull=False) & ~Q(resolution=""))
                | (~Q(state="resolved") & Q(resolved_at__isnull=True, resolution="")),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("breaks_stay"),
            moves_only("break_moves", moves=BREAK_MOVES),
            frozen_columns(
                "break_keeps_its_cause",
                columns=["id", "organization_id", "kind", "bank_line_id", "statement_id"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.kind


class OpeningBalance(OrganizationOwned):
    """What an account held before its first statement: in the books once another person agrees."""

    bank_account = OwnedForeignKey("banking.BankAccount")
    statement = OwnedForeignKey("banking.BankStatement")
    ledger_account = OwnedForeignKey("ledger.LedgerAccount")
    amount_minor = models.BigIntegerField(db_comment="Negative where the account was overdrawn.")
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=8, choices=OpeningState, default=OpeningState.PROPOSED)
    entry = OwnedForeignKey("ledger.JournalEntry", null=True)
    proposed_by = models.CharField(max_length=64, db_comment="The principal.")
    decided_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "reconciliation_opening"
        constraints: ClassVar = [
            OwnedKey(name="opening_key"),
            SameOrganization(name="opening_owns_its_account", field="bank_account"),
            SameOrganization(name="opening_owns_its_statement", field="statement"),
            SameOrganization(name="opening_owns_its_ledger_account", field="ledger_account"),
            models.UniqueConstraint(
                name="opening_of_an_account_is_one", fields=["organization", "bank_account"]
            ),
            models.CheckConstraint(name="opening_moves_money", condition=~Q(amount_minor=0)),
            models.CheckConstraint(
                name="opening_is_posted_iff_accepted",
                condition=Q(state="accepted", entry__isnull=False)
                | (~Q(state="accepted") & Q(entry__isnull=True)),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("openings_stay"),
            moves_only("opening_moves", moves=OPENING_MOVES),
            frozen_columns(
                "opening_is_what_the_statement_said",
                columns=["id", "organization_id", "bank_account_id", "amount_minor", "currency"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.amount_minor} {self.currency}"
