"""Where money stands: accounts, and the row of counters that every posting locks."""

from typing import ClassVar, override

import pgtrigger
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q

import apps.ledger
from apps.core.constraints import OwnedKey
from apps.core.tenancy import OrganizationOwned
from apps.core.triggers import Guard, body, frozen_columns, never_deleted
from apps.ledger.rules import AccountStatus, AccountType


class LedgerAccount(OrganizationOwned):
    """A bucket in the books, in one currency. What it holds is in its `Balance`."""

    code = models.CharField(max_length=200, db_comment="A path, such as bank:ba_1:EUR.")
    type = models.CharField(max_length=9, choices=[(t.value, t.value) for t in AccountType])
    currency = models.CharField(max_length=3)
    metadata = models.JSONField(default=dict)
    event_sequence = models.BigIntegerField(default=1, db_comment="Its opening was the first.")
    created_at = models.DateTimeField()

    class Meta:
        db_table = "ledger_account"
        indexes: ClassVar = [
            models.Index(
                name="ledger_account_created", fields=["organization", "created_at", "id"]
            ),
            GinIndex(
                name="ledger_account_metadata",
                fields=["metadata"],
                opclasses=["jsonb_path_ops"],
                condition=~Q(metadata={}),
            ),
        ]
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
    latest_effective_at = models.DateTimeField(
        null=True, db_comment="The latest business time posted: earlier ones are back-dated."
    )
    monitored = models.BooleanField(default=False, db_comment="Some balance monitor watches it.")

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
            Guard(
                name="balance_begins_with_its_account",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                referencing=pgtrigger.Referencing(new="opened"),
                declare=[("bad", "uuid")],
                func=body(apps.ledger.__file__, "balance_begins_with_its_account"),
            ),
            # For good (ADR 0118). Nothing is posted to it any more, and the counters stay.
            Guard(
                name="balance_is_empty_when_closed",
                level=pgtrigger.Row,
                when=pgtrigger.After,
                operation=pgtrigger.UpdateOf("status"),
                condition=pgtrigger.Condition(
                    "NEW.status = 'closed' AND (NEW.posted_debits <> NEW.posted_credits"
                    " OR NEW.pending_debits <> 0 OR NEW.pending_credits <> 0)"
                ),
                func=(
                    "RAISE EXCEPTION 'ledger account % is not empty, and is not closed', NEW.id"
                    " USING ERRCODE = 'check_violation',"
                    " CONSTRAINT = 'balance_is_empty_when_closed';"
                ),
            ),
            # Postings are numbered by it, and each of them moves money: neither moves without the
            # other, nor back. What does not break this is told by the condition alone: nothing is
            # called for it, ten thousand times a batch.
            Guard(
                name="balance_version_moves_with_money",
                level=pgtrigger.Row,
                when=pgtrigger.After,
                operation=pgtrigger.UpdateOf("version", "posted_debits", "posted_credits"),
                condition=pgtrigger.Condition(
                    "NEW.version < OLD.version OR NEW.posted_debits < OLD.posted_debits"
                    " OR NEW.posted_credits < OLD.posted_credits"
                    " OR (NEW.version = OLD.version) <> (NEW.posted_debits = OLD.posted_debits"
                    " AND NEW.posted_credits = OLD.posted_credits)"
                ),
                func=(
                    "RAISE EXCEPTION 'balance % goes from version % to %, and not with what is"
                    " posted', NEW.id, OLD.version, NEW.version USING ERRCODE = 'check_violation',"
                    " CONSTRAINT = 'balance_version_moves_with_money';"
                ),
            ),
        ]
