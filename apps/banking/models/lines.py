"""What the bank booked, what became of it, and the accounts with lines to match."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from apps.banking.models.accounts import BankAccount
from apps.banking.models.statements import BankStatement
from apps.banking.states import LINE_MOVES, LineState, Source
from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import append_only, frozen_columns, moves_only, never_deleted
from apps.core.work import WorkRow, work_indexes


class BankLine(OrganizationOwned):
    """
    One entry as the bank booked it. It never changes; what became of it is in `BankLineStatus`.

    The references are those of its only transaction; where there are several, they have rows of
    their own (`BankLineDetail`). A credit is positive.
    """

    bank_account = OwnedForeignKey(BankAccount)
    statement = OwnedForeignKey(BankStatement)
    same_as = OwnedForeignKey("self", null=True)
    source = models.CharField(max_length=12, choices=Source)
    position = models.PositiveIntegerField()
    source_line = models.PositiveIntegerField(null=True, db_comment="The line of the file.")
    is_booked = models.BooleanField()
    booking_date = models.DateField()
    value_date = models.DateField(null=True)
    amount_minor = models.BigIntegerField(db_comment="A credit to our account is positive.")
    currency = models.CharField(max_length=3)
    entry_ref = models.CharField(max_length=64, default="")
    account_servicer_ref = models.CharField(max_length=64, default="")
    bank_code = models.CharField(max_length=80, default="")
    is_return = models.BooleanField(default=False)
    return_code = models.CharField(max_length=35, default="")
    return_text = models.CharField(max_length=500, default="")
    message_id = models.CharField(max_length=64, default="")
    payment_information_id = models.CharField(max_length=64, default="")
    instruction_id = models.CharField(max_length=64, default="")
    end_to_end_id = models.CharField(max_length=64, default="")
    creditor_references = ArrayField(models.CharField(max_length=140), default=list)
    texts = ArrayField(models.CharField(max_length=500), default=list)
    text = models.CharField(max_length=1000, default="", db_comment="The bank's own words.")
    counterparty_sealed = models.BinaryField(null=True, db_comment="JSON: name, account, bic.")
    counterparty_index = models.BinaryField(null=True, db_comment="Blind index of the account.")
    counterparty_tail = models.CharField(max_length=4, default="")
    unit_count = models.PositiveIntegerField(
        default=0, db_comment="Details that are units of matching; 0: the line itself is."
    )
    identity = models.BinaryField(db_comment="SHA-256 that equal lines share.")
    occurrence = models.PositiveIntegerField(db_comment="Which of its equals, from 1.")

    class Meta:
        db_table = "banking_line"
        indexes: ClassVar = [
            models.Index(name="bank_line_of_statement", fields=["organization", "statement"]),
            models.Index(
                name="bank_line_of_account", fields=["organization", "bank_account", "booking_date"]
            ),
            models.Index(
                name="bank_line_by_servicer_ref",
                fields=["organization", "bank_account", "account_servicer_ref"],
                condition=~Q(account_servicer_ref=""),
            ),
        ]
        constraints: ClassVar = [
            OwnedKey(name="bank_line_key"),
            SameOrganization(name="bank_line_owns_its_account", field="bank_account"),
            SameOrganization(name="bank_line_owns_its_statement", field="statement"),
            SameOrganization(name="bank_line_owns_its_twin", field="same_as"),
            models.UniqueConstraint(
                name="bank_line_occurs_once",
                fields=["organization", "bank_account", "source", "identity", "occurrence"],
            ),
            models.UniqueConstraint(
                name="bank_line_has_one_twin",
                fields=["organization", "same_as"],
                condition=Q(same_as__isnull=False),
            ),
            models.CheckConstraint(
                name="bank_line_is_not_its_own_twin",
                condition=Q(same_as__isnull=True) | ~Q(same_as=F("id")),
            ),
            models.CheckConstraint(
                name="bank_line_currency_is_a_code", condition=Q(currency__regex="^[A-Z]{3}$")
            ),
        ]
        triggers: ClassVar = [append_only("bank_lines_are_append_only")]


class BankLineDetail(OrganizationOwned):
    """One of several transactions inside a line; a unit of matching where they add up to it."""

    line = OwnedForeignKey(BankLine)
    position = models.PositiveIntegerField()
    amount_minor = models.BigIntegerField(null=True)
    account_servicer_ref = models.CharField(max_length=64, default="")
    is_return = models.BooleanField(default=False)
    return_code = models.CharField(max_length=35, default="")
    return_text = models.CharField(max_length=500, default="")
    message_id = models.CharField(max_length=64, default="")
    payment_information_id = models.CharField(max_length=64, default="")
    instruction_id = models.CharField(max_length=64, default="")
    end_to_end_id = models.CharField(max_length=64, default="")
    creditor_references = ArrayField(models.CharField(max_length=140), default=list)
    texts = ArrayField(models.CharField(max_length=500), default=list)
    counterparty_sealed = models.BinaryField(null=True, db_comment="JSON: name, account, bic.")
    counterparty_index = models.BinaryField(null=True)
    counterparty_tail = models.CharField(max_length=4, default="")

    class Meta:
        db_table = "banking_line_detail"
        constraints: ClassVar = [
            OwnedKey(name="bank_line_detail_key"),
            SameOrganization(name="bank_line_detail_owns_its_line", field="line"),
            models.UniqueConstraint(
                name="bank_line_detail_stands_once", fields=["organization", "line", "position"]
            ),
        ]
        triggers: ClassVar = [append_only("bank_line_details_are_append_only")]


class BankLineStatus(OrganizationOwned):
    """What became of a line: one row per line, and the one entry that posted it."""

    line = OwnedForeignKey(BankLine)
    bank_account = OwnedForeignKey(BankAccount)
    state = models.CharField(max_length=11, choices=LineState, default=LineState.NEW)
    # The order of matching: it depends on the lines alone, not on who imports or matches when.
    booking_date = models.DateField()
    # Journal entries carry no second key to point at, which every posting would pay for: an
    # invariant looks after this reference.
    entry = OwnedForeignKey("ledger.JournalEntry", null=True)
    reason = models.CharField(max_length=40, default="", db_comment="Why it is in suspense.")
    turn = models.IntegerField(
        default=0, db_default=0, db_comment="The queue's, when it was last looked at."
    )

    class Meta:
        db_table = "banking_line_status"
        indexes: ClassVar = [
            models.Index(
                name="bank_line_status_new",
                fields=["organization", "bank_account", "booking_date", "line"],
                condition=Q(state="new"),
            ),
            models.Index(
                name="bank_line_status_suspense",
                fields=["organization", "bank_account", "line"],
                condition=Q(state="in_suspense"),
            ),
            models.Index(
                name="bank_line_status_parked",
                fields=["organization", "bank_account", "turn", "booking_date", "line"],
                condition=Q(state="in_suspense", reason="parked"),
            ),
        ]
        constraints: ClassVar = [
            SameOrganization(name="bank_line_status_owns_its_line", field="line"),
            SameOrganization(name="bank_line_status_owns_its_account", field="bank_account"),
            models.UniqueConstraint(
                name="bank_line_has_one_status", fields=["organization", "line"]
            ),
            models.UniqueConstraint(
                name="bank_line_has_its_own_entry",
                fields=["organization", "entry"],
                condition=Q(entry__isnull=False),
            ),
            models.CheckConstraint(
                name="bank_line_status_is_known", condition=Q(state__in=LineState.values)
            ),
            models.CheckConstraint(
                name="bank_line_is_posted_iff_worked",
                condition=Q(state__in=["matched", "in_suspense"], entry__isnull=False)
                | Q(state__in=["new", "known"], entry__isnull=True),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("bank_line_status_stays"),
            moves_only("bank_line_moves", moves=LINE_MOVES),
            frozen_columns(
                "bank_line_status_is_of_its_line",
                columns=["id", "organization_id", "line_id", "bank_account_id", "booking_date"],
            ),
        ]


class LineQueue(WorkRow):
    """
    An account with lines to match: due whenever some came in.

    One row per account, since every match posts to that account's one balance anyway, and lines
    are taken in their own order. New lines begin a turn, in which each parked line is tried once
    more.
    """

    organization = models.ForeignKey(
        "accounts.Organization", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    bank_account = OwnedForeignKey(BankAccount)
    turn = models.IntegerField(default=0, db_default=0)

    class Meta:
        db_table = "banking_line_queue"
        indexes: ClassVar = work_indexes("bank_line_queue")
        constraints: ClassVar = [
            SameOrganization(name="line_queue_owns_its_account", field="bank_account"),
            models.UniqueConstraint(
                name="bank_account_has_one_line_queue", fields=["organization", "bank_account"]
            ),
        ]
