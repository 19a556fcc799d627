"""Money reserved, and what happened to it."""

from typing import ClassVar

import pgtrigger
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import Guard, append_only, frozen_columns, moves_only, never_deleted
from apps.ledger.models.accounts import LedgerAccount
from apps.ledger.rules import HoldStatus
from apps.ledger.states import HOLD_MOVES


class Hold(OrganizationOwned):
    """Money reserved in the books: posted in whole or part by a capture, or released."""

    debit_account = OwnedForeignKey(LedgerAccount)
    credit_account = OwnedForeignKey(LedgerAccount)
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()
    captured_minor = models.BigIntegerField(default=0)
    status = models.CharField(
        max_length=8, choices=[(s.value, s.value) for s in HoldStatus], default=HoldStatus.OPEN
    )
    multi_capture = models.BooleanField(
        default=False, db_comment="Captured in parts until it is used up; else the rest is freed."
    )
    reference = models.CharField(max_length=255, null=True)  # noqa: DJ001  (NULL: none was given)
    keeps_reference = models.BooleanField(
        default=False,
        db_default=False,
        db_comment="No other hold ever has its reference. No hold of before this column has it.",
    )
    metadata = models.JSONField(default=dict)
    event_sequence = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "ledger_hold"
        indexes: ClassVar = [
            # An account's open holds, newest first, however many have ended. Where debits are its
            # money, what leaves it is a credit.
            models.Index(
                name="hold_open_of_debit",
                fields=["organization", "debit_account", "id"],
                condition=Q(status="open"),
            ),
            models.Index(
                name="hold_open_of_credit",
                fields=["organization", "credit_account", "id"],
                condition=Q(status="open"),
            ),
            # What the sweeper looks for; it is whole only to say that the hold is over.
            models.Index(
                name="hold_expiring",
                fields=["organization", "expires_at"],
                condition=Q(status="open", expires_at__isnull=False),
            ),
            # What lists of them name; a page of one goes by the ids, newest first.
            models.Index(name="hold_of_debit", fields=["organization", "debit_account", "id"]),
            models.Index(name="hold_of_credit", fields=["organization", "credit_account", "id"]),
            models.Index(
                name="hold_of_reference",
                fields=["organization", "reference", "id"],
                condition=Q(reference__isnull=False),
            ),
            models.Index(name="hold_placed", fields=["organization", "created_at", "id"]),
            GinIndex(
                name="hold_metadata",
                fields=["metadata"],
                opclasses=["jsonb_path_ops"],
                condition=~Q(metadata={}),
            ),
        ]
        constraints: ClassVar = [
            OwnedKey(name="hold_key"),
            SameOrganization(name="hold_owns_its_debit_account", field="debit_account"),
            SameOrganization(name="hold_owns_its_credit_account", field="credit_account"),
            models.CheckConstraint(
                name="hold_status_is_known", condition=Q(status__in=[s.value for s in HoldStatus])
            ),
            models.CheckConstraint(name="hold_reserves_money", condition=Q(amount_minor__gt=0)),
            models.CheckConstraint(
                name="hold_captures_at_most_its_amount",
                condition=Q(captured_minor__gte=0, captured_minor__lte=F("amount_minor")),
            ),
            models.CheckConstraint(
                name="hold_captured_iff_so_named",
                condition=Q(status="captured") | Q(captured_minor=0) | Q(multi_capture=True),
            ),
            models.CheckConstraint(
                name="hold_has_something_left_unless_captured",
                condition=Q(status="captured") | Q(captured_minor__lt=F("amount_minor")),
            ),
            models.CheckConstraint(
                name="hold_names_two_accounts", condition=~Q(debit_account=F("credit_account"))
            ),
            models.UniqueConstraint(
                name="open_hold_reference_is_unique",
                fields=["organization", "reference"],
                condition=Q(reference__isnull=False, status="open"),
            ),
            models.UniqueConstraint(
                name="hold_reference_is_unique",
                fields=["organization", "reference"],
                condition=Q(keeps_reference=True),
            ),
            models.CheckConstraint(
                name="hold_keeps_a_reference_it_has",
                condition=Q(keeps_reference=False) | Q(reference__isnull=False),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("holds_stay"),
            frozen_columns(
                "hold_is_what_it_was",
                columns=[
                    "id",
                    "organization_id",
                    "debit_account_id",
                    "credit_account_id",
                    "currency",
                    "amount_minor",
                    "multi_capture",
                    "reference",
                    "keeps_reference",
                    "expires_at",
                ],
            ),
            moves_only("hold_ends_for_good", moves=HOLD_MOVES, column="status"),
            # What was captured is posted and stays so, and nothing is captured of what has ended.
            Guard(
                name="hold_is_captured_while_open",
                level=pgtrigger.Row,
                when=pgtrigger.After,
                operation=pgtrigger.UpdateOf("captured_minor"),
                condition=pgtrigger.Condition(
                    "NEW.captured_minor < OLD.captured_minor"
                    " OR NEW.captured_minor > OLD.captured_minor AND OLD.status <> 'open'"
                ),
                func=(
                    "RAISE EXCEPTION 'of hold %, which is %, % were captured and not %', NEW.id,"
                    " OLD.status, OLD.captured_minor, NEW.captured_minor"
                    " USING ERRCODE = 'check_violation',"
                    " CONSTRAINT = 'hold_is_captured_while_open';"
                ),
            ),
        ]


class HoldEvent(OrganizationOwned):
    """One thing that happened to a hold: placed, captured, voided or expired."""

    hold = OwnedForeignKey(Hold)
    kind = models.CharField(max_length=8)
    amount_minor = models.BigIntegerField()
    entry_id = models.UUIDField(null=True)
    terminal = models.BooleanField()
    recorded_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "ledger_hold_event"
        indexes: ClassVar = [
            models.Index(name="hold_event_of_hold", fields=["organization", "hold"]),
            models.Index(
                name="hold_event_of_entry",
                fields=["organization", "entry_id"],
                condition=Q(entry_id__isnull=False),
            ),
        ]
        constraints: ClassVar = [
            SameOrganization(name="hold_event_owns_its_hold", field="hold"),
            models.UniqueConstraint(
                name="hold_ends_once",
                fields=["organization", "hold"],
                condition=Q(terminal=True),
            ),
            # A capture posts an entry, except one of nothing, which only releases.
            models.CheckConstraint(
                name="hold_event_says_what_happened",
                condition=Q(kind="placed", terminal=False, entry_id=None, amount_minor__gt=0)
                | Q(kind="captured", entry_id__isnull=False, amount_minor__gt=0)
                | Q(kind="captured", terminal=True, entry_id=None, amount_minor=0)
                | Q(
                    kind__in=["voided", "expired"],
                    terminal=True,
                    entry_id=None,
                    amount_minor__gt=0,
                ),
            ),
        ]
        triggers: ClassVar = [append_only("hold_events_are_append_only")]
