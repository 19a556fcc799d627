"""What a bank says an account held, one statement after the other."""

from typing import ClassVar, override

from django.db import models
from django.db.models import Q

from apps.banking.models.accounts import BankAccount
from apps.banking.models.files import BankFile
from apps.banking.states import STATEMENT_MOVES, Chain, Source, StatementState
from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import frozen_columns, moves_only, never_deleted


class BankStatement(OrganizationOwned):
    """
    One statement or notification of a file.

    `base_minor` is what the account held before its new lines: the opening balance, or, where it
    overlaps others, the closing balance known before it.
    """

    bank_file = OwnedForeignKey(BankFile)
    bank_account = OwnedForeignKey(BankAccount, null=True)
    previous = OwnedForeignKey("self", null=True)
    source = models.CharField(max_length=12, choices=Source)
    state = models.CharField(max_length=16, choices=StatementState)
    chain = models.CharField(max_length=8, choices=Chain, default=Chain.NONE)
    position = models.PositiveIntegerField(db_comment="In its file, from 1.")
    identification_index = models.BinaryField()
    identification_tail = models.CharField(max_length=4)
    statement_id = models.CharField(max_length=64, db_comment="The bank's.")
    sequence = models.CharField(max_length=32, default="")
    currency = models.CharField(max_length=3)
    opening_date = models.DateField(null=True)
    closing_date = models.DateField(null=True)
    opening_minor = models.BigIntegerField(null=True)
    closing_minor = models.BigIntegerField(null=True)
    base_minor = models.BigIntegerField(null=True)
    line_count = models.PositiveIntegerField(default=0, db_comment="As the file has them.")
    new_line_count = models.PositiveIntegerField(default=0, db_comment="Not known before.")
    lines_digest = models.BinaryField(db_comment="SHA-256 over the lines in their order.")
    source_line = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "banking_statement"
        indexes: ClassVar = [
            models.Index(
                name="bank_statement_of",
                fields=["organization", "bank_account", "closing_date", "id"],
            ),
            models.Index(
                name="bank_statement_without_account",
                fields=["organization", "identification_index"],
                condition=Q(bank_account__isnull=True),
            ),
            models.Index(name="bank_statement_made", fields=["organization", "created_at", "id"]),
        ]
        constraints: ClassVar = [
            OwnedKey(name="bank_statement_key"),
            SameOrganization(name="bank_statement_owns_its_file", field="bank_file"),
            SameOrganization(name="bank_statement_owns_its_account", field="bank_account"),
            SameOrganization(name="bank_statement_owns_the_one_before", field="previous"),
            models.UniqueConstraint(
                name="bank_statement_is_stored_once",
                fields=["organization", "bank_file", "position"],
            ),
            models.UniqueConstraint(
                name="bank_statement_is_followed_once",
                fields=["organization", "previous"],
                condition=Q(previous__isnull=False),
            ),
            models.CheckConstraint(
                name="bank_statement_has_an_account_iff_known",
                condition=Q(state="unknown_account", bank_account__isnull=True)
                | (~Q(state="unknown_account") & Q(bank_account__isnull=False)),
            ),
            models.CheckConstraint(
                name="bank_statement_has_balances",
                condition=Q(
                    opening_minor__isnull=False,
                    closing_minor__isnull=False,
                    opening_date__isnull=False,
                    closing_date__isnull=False,
                )
                | ~Q(source="statement")
                # A page alone may have one of the two, or neither.
                | Q(state__in=["waiting", "unknown_account"]),
            ),
            models.CheckConstraint(
                name="bank_statement_follows_iff_it_has_one_before",
                condition=Q(chain="follows", previous__isnull=False)
                | (~Q(chain="follows") & Q(previous__isnull=True)),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("bank_statements_stay"),
            moves_only("bank_statement_moves", moves=STATEMENT_MOVES),
            frozen_columns(
                "bank_statement_says_what_it_said",
                columns=[
                    "id",
                    "organization_id",
                    "bank_file_id",
                    "statement_id",
                    "opening_minor",
                    "closing_minor",
                    "opening_date",
                    "closing_date",
                    "currency",
                    "lines_digest",
                ],
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.statement_id or f"number {self.position}"
