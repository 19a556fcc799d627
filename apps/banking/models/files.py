"""Files from a bank or to one, and those that wait to be read."""

from typing import ClassVar, override

from django.db import models
from django.db.models import Q

from apps.banking.models.accounts import BankAccount, BankConnection
from apps.banking.states import FILE_MOVES, Direction, FileState
from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import frozen_columns, moves_only, never_deleted
from apps.core.work import WorkRow, work_indexes


class BankFile(OrganizationOwned):
    """A file from a bank or to one: its bytes encrypted, and what became of it."""

    connection = OwnedForeignKey(BankConnection, null=True)
    bank_account = OwnedForeignKey(BankAccount, null=True)
    direction = models.CharField(max_length=3, choices=Direction)
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=16, default="", db_comment="camt.053, pain.001 and so on.")
    version = models.CharField(max_length=32, default="")
    message_id = models.CharField(max_length=64, default="", db_comment="As the file says.")
    sha256 = models.BinaryField(db_comment="Of the clear bytes.")
    byte_count = models.PositiveIntegerField()
    content_sealed = models.BinaryField(db_comment="Compressed, then encrypted.")
    state = models.CharField(max_length=16, choices=FileState)
    reason_code = models.CharField(max_length=40, default="")
    reason = models.CharField(max_length=1000, default="")
    problems = models.JSONField(default=list, db_comment="All that is wrong, each with its place.")
    warnings = models.JSONField(default=list)
    received_by = models.CharField(max_length=100, db_comment="The actor.")
    received_principal = models.CharField(max_length=64, db_comment="The person behind the actor.")
    created_at = models.DateTimeField()
    done_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "banking_file"
        indexes: ClassVar = [
            models.Index(name="bank_file_by_message", fields=["organization", "message_id"]),
            models.Index(name="bank_file_made", fields=["organization", "created_at", "id"]),
        ]
        constraints: ClassVar = [
            OwnedKey(name="bank_file_key"),
            SameOrganization(name="bank_file_owns_its_connection", field="connection"),
            SameOrganization(name="bank_file_owns_its_account", field="bank_account"),
            models.UniqueConstraint(
                name="bank_file_is_stored_once", fields=["organization", "direction", "sha256"]
            ),
            models.UniqueConstraint(
                name="bank_file_out_has_its_own_message_id",
                fields=["organization", "message_id"],
                condition=Q(direction="out"),
            ),
            models.CheckConstraint(
                name="bank_file_state_is_known", condition=Q(state__in=FileState.values)
            ),
            models.CheckConstraint(
                name="bank_file_is_stored_iff_out",
                condition=Q(direction="out", state="stored")
                | (Q(direction="in") & ~Q(state="stored")),
            ),
            models.CheckConstraint(
                name="bank_file_has_a_reason_iff_not_taken",
                condition=(Q(state__in=["refused", "unknown_account"]) & ~Q(reason_code=""))
                | (~Q(state__in=["refused", "unknown_account"]) & Q(reason_code="")),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("bank_files_stay"),
            moves_only("bank_file_moves", moves=FILE_MOVES),
            frozen_columns(
                "bank_file_is_what_came",
                columns=["id", "organization_id", "direction", "sha256", "byte_count"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.name


class BankFileWork(WorkRow):
    """A file that waits to be read, or to be read again."""

    organization = models.ForeignKey(
        "accounts.Organization", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    bank_file = OwnedForeignKey(BankFile)

    class Meta:
        db_table = "banking_file_work"
        indexes: ClassVar = work_indexes("bank_file_work", owner="organization")
        constraints: ClassVar = [
            SameOrganization(name="bank_file_work_owns_its_file", field="bank_file"),
            models.UniqueConstraint(
                name="bank_file_has_one_work", fields=["organization", "bank_file"]
            ),
        ]
