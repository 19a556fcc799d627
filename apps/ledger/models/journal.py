"""What moved: entries and their postings, written once and never changed."""

from typing import ClassVar

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

import apps.ledger
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import Guard, append_only, body


class JournalEntry(OrganizationOwned):
    """An immutable, balanced set of postings."""

    # Without a constraint, as its postings' references are: the accounts that they name have one,
    # and are its organisation's, which their trigger looks at for all of a statement at once.
    organization = models.ForeignKey(
        "accounts.Organization",
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
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
        # In Postgres the primary key is (organization_id, id), see migration 0003 and ADR 0056.
        indexes: ClassVar = [
            # Transfers of clients are the many: they are found by the key's own order.
            models.Index(
                name="entry_of_kind",
                fields=["organization", "kind", "id"],
                condition=~Q(kind="transfer"),
            ),
            GinIndex(
                name="entry_metadata",
                fields=["metadata"],
                opclasses=["jsonb_path_ops"],
                condition=~Q(metadata={}),
            ),
            BrinIndex(
                name="entry_time",
                fields=["organization", "effective_at", "recorded_at"],
                pages_per_range=32,
                autosummarize=True,
            ),
        ]
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
                func=body(apps.ledger.__file__, "reversal_is_of_its_organization"),
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
    effective_at = models.DateTimeField(db_comment="Its entry's.")
    recorded_at = models.DateTimeField(db_comment="Its entry's.")

    class Meta:
        db_table = "ledger_posting"
        # Migration 0011 adds `posting_displaced`: those whose two clocks lie days apart (ADR 0070).
        # Migration 0038 adds `posting_ahead`: those dated ahead by a minute and more (ADR 0186).
        indexes: ClassVar = [
            BrinIndex(
                name="posting_time",
                fields=["organization_id", "effective_at", "recorded_at"],
                pages_per_range=32,
                autosummarize=True,
            ),
        ]
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
                declare=[
                    ("posting", "ledger_posting"),
                    ("other", "ledger_posting"),
                    ("many", "integer := 0"),
                    ("is_pair", "boolean"),
                    ("seen", "record"),
                    ("bad", "record"),
                    ("apart", "record"),
                ],
                func=body(apps.ledger.__file__, "postings_are_balanced"),
            ),
        ]


class EntryMetadata(models.Model):
    """What an entry's metadata became later: the newest row counts, the entry itself stays."""

    pk = models.CompositePrimaryKey("organization_id", "entry_id", "number")
    organization_id = models.UUIDField()
    entry_id = models.UUIDField()
    number = models.PositiveIntegerField(db_comment="1, 2, 3 ... within the entry.")
    metadata = models.JSONField()
    actor = models.CharField(max_length=100)
    recorded_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "ledger_entry_metadata"
        indexes: ClassVar = [
            GinIndex(
                name="later_entry_metadata",
                fields=["metadata"],
                opclasses=["jsonb_path_ops"],
                condition=~Q(metadata={}),
            ),
        ]
        triggers: ClassVar = [
            append_only("entry_metadata_is_append_only"),
            Guard(
                name="metadata_is_of_an_entry",
                level=pgtrigger.Row,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                func=body(apps.ledger.__file__, "metadata_is_of_an_entry"),
            ),
        ]


class TransferBatch(OrganizationOwned):
    """A batch of transfers as it was answered: an entry or a refusal each, in their order."""

    mode = models.CharField(max_length=11)
    entry_ids = ArrayField(models.UUIDField(null=True))
    refusals = models.JSONField(db_comment="By index: code, message, details.")
    created_at = models.DateTimeField()

    class Meta:
        db_table = "ledger_transfer_batch"
        triggers: ClassVar = [append_only("transfer_batches_are_append_only")]
