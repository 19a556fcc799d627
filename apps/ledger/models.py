"""The books. Private to the ledger: everybody else calls its operations and queries."""

from typing import ClassVar, override

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import Guard, append_only, body, frozen_columns, never_deleted
from apps.ledger.rules import AccountStatus, AccountType, HoldStatus


class LedgerAccount(OrganizationOwned):
    """A bucket in the books, in one currency. What it holds is in its `Balance`."""

    code = models.CharField(max_length=200, db_comment="A path, such as bank:ba_1:EUR.")
    type = models.CharField(max_length=9, choices=[(t.value, t.value) for t in AccountType])
    currency = models.CharField(max_length=3)
    metadata = models.JSONField(default=dict)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "ledger_account"
        constraints: ClassVar = [
            OwnedKey(name="ledger_account_key"),
            models.UniqueConstraint(
                name="ledger_account_code_is_unique", fields=["organization", "code"]
            ),
            models.CheckConstraint(
                name="ledger_account_type_is_known",
                condition=Q(type__in=[t.value for t in AccountType]),
            ),
            models.CheckConstraint(
                name="ledger_account_currency_is_a_code", condition=Q(currency__regex="^[A-Z]{3}$")
            ),
            # Injective when exported: beancount knows no underscore and wants capitals in front.
            models.CheckConstraint(
                name="ledger_account_code_is_a_path",
                condition=Q(code__regex="^[a-z0-9][a-z0-9_]*(:[a-z0-9][a-z0-9_]*)*(:[A-Z]{3})?$"),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("ledger_accounts_stay"),
            frozen_columns(
                "ledger_account_is_what_it_was",
                columns=["id", "organization_id", "code", "type", "currency"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.code


class Balance(OrganizationOwned):
    """
    An account's counters, under the account's own id, made with it and locked by every posting.

    The floor and the status stand here and not on the account: a CHECK sees one row only, and
    what an engine decides by must be read under the lock it holds.
    """

    id = models.UUIDField(primary_key=True, db_comment="The ledger account's id.")
    currency = models.CharField(max_length=3)
    credit_normal = models.BooleanField()
    internal = models.BooleanField(db_comment="Posted to by our own acts, not by API transfers.")
    status = models.CharField(
        max_length=6,
        choices=[(s.value, s.value) for s in AccountStatus],
        default=AccountStatus.OPEN,
    )
    min_available_minor = models.BigIntegerField(
        null=True, db_comment="The floor of available. NULL: none; negative: a credit line."
    )
    posted_debits = models.BigIntegerField(default=0)
    posted_credits = models.BigIntegerField(default=0)
    pending_debits = models.BigIntegerField(default=0)
    pending_credits = models.BigIntegerField(default=0)
    version = models.BigIntegerField(default=0, db_comment="How many postings there were.")

    class Meta:
        db_table = "ledger_balance"
        constraints: ClassVar = [
            models.CheckConstraint(
                name="balance_counters_are_not_negative",
                condition=Q(
                    posted_debits__gte=0,
                    posted_credits__gte=0,
                    pending_debits__gte=0,
                    pending_credits__gte=0,
                    version__gte=0,
                ),
            ),
            models.CheckConstraint(
                name="balance_keeps_its_floor",
                condition=Q(min_available_minor__isnull=True)
                | Q(
                    credit_normal=True,
                    posted_credits__gte=F("posted_debits")
                    + F("pending_debits")
                    + F("min_available_minor"),
                )
                | Q(
                    credit_normal=False,
                    posted_debits__gte=F("posted_credits")
                    + F("pending_credits")
                    + F("min_available_minor"),
                ),
            ),
            models.CheckConstraint(
                name="balance_status_is_known",
                condition=Q(status__in=[s.value for s in AccountStatus]),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("balances_stay"),
            frozen_columns(
                "balance_is_of_its_account",
                columns=["id", "organization_id", "currency", "credit_normal"],
            ),
        ]


class JournalEntry(OrganizationOwned):
    """An immutable, balanced set of postings."""

    kind = models.CharField(max_length=40)
    reference = models.CharField(max_length=255, null=True)  # noqa: DJ001  (NULL: none was given)
    description = models.CharField(max_length=500, default="")
    effective_at = models.DateTimeField(db_comment="Business time.")
    recorded_at = models.DateTimeField(db_default=Now(), db_comment="The server's clock.")
    reverses = OwnedForeignKey("self", null=True)
    actor = models.CharField(max_length=100)
    metadata = models.JSONField(default=dict)

    class Meta:
        db_table = "ledger_journal_entry"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="journal_entry_reference_is_unique",
                fields=["organization", "reference"],
                condition=Q(reference__isnull=False),
            ),
            models.UniqueConstraint(
                name="journal_entry_is_reversed_once",
                fields=["organization", "reverses"],
                condition=Q(reverses__isnull=False),
            ),
        ]
        triggers: ClassVar = [
            append_only("journal_entries_are_append_only"),
            Guard(
                name="reversal_is_of_its_organization",
                level=pgtrigger.Row,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                condition=pgtrigger.Condition("NEW.reverses_id IS NOT NULL"),
                func=body(__file__, "reversal_is_of_its_organization"),
            ),
        ]


class Posting(models.Model):
    """One signed amount of an entry on one account: debit positive, credit negative."""

    pk = models.CompositePrimaryKey("organization_id", "entry_id", "number")
    organization_id = models.UUIDField()
    entry_id = models.UUIDField()
    number = models.PositiveSmallIntegerField(db_comment="1..n within the entry.")
    account_id = models.UUIDField()
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    account_version = models.BigIntegerField(db_comment="The account's n-th posting, no gaps.")
    balance_after_minor = models.BigIntegerField(db_comment="Posted, on the normal side.")

    class Meta:
        db_table = "ledger_posting"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="posting_account_version_is_unique",
                fields=["organization_id", "account_id", "account_version"],
            ),
            models.CheckConstraint(name="posting_moves_money", condition=~Q(amount_minor=0)),
        ]
        triggers: ClassVar = [
            append_only("postings_are_append_only"),
            Guard(
                name="postings_are_balanced",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                referencing=pgtrigger.Referencing(new="written"),
                declare=[("bad", "record")],
                func=body(__file__, "postings_are_balanced"),
            ),
        ]


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
    reference = models.CharField(max_length=255, null=True)  # noqa: DJ001  (NULL: none was given)
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "ledger_hold"
        indexes: ClassVar = [
            models.Index(
                name="hold_open_of_account",
                fields=["organization", "debit_account"],
                condition=Q(status="open"),
            ),
        ]
        constraints: ClassVar = [
            OwnedKey(name="hold_key"),
            SameOrganization(name="hold_owns_its_debit_account", field="debit_account"),
            SameOrganization(name="hold_owns_its_credit_account", field="credit_account"),
            models.CheckConstraint(name="hold_reserves_money", condition=Q(amount_minor__gt=0)),
            models.CheckConstraint(
                name="hold_captures_at_most_its_amount",
                condition=Q(captured_minor__gte=0, captured_minor__lte=F("amount_minor")),
            ),
            models.CheckConstraint(
                name="hold_captured_iff_so_named",
                condition=Q(status="captured") | Q(captured_minor=0),
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
                ],
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
        ]
        constraints: ClassVar = [
            SameOrganization(name="hold_event_owns_its_hold", field="hold"),
            models.UniqueConstraint(
                name="hold_ends_once",
                fields=["organization", "hold"],
                condition=Q(terminal=True),
            ),
        ]
        triggers: ClassVar = [append_only("hold_events_are_append_only")]


class TransferBatch(OrganizationOwned):
    """A batch of transfers as it was answered: an entry or a refusal each, in their order."""

    mode = models.CharField(max_length=11)
    entry_ids = ArrayField(models.UUIDField(null=True))
    refusals = models.JSONField(db_comment="By index: code, message, details.")
    created_at = models.DateTimeField()

    class Meta:
        db_table = "ledger_transfer_batch"
        triggers: ClassVar = [append_only("transfer_batches_are_append_only")]
