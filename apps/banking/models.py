"""Bank accounts of ours, the files that come and go, and what the bank says it booked."""

from typing import ClassVar, override

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from apps.banking.states import (
    FILE_MOVES,
    LINE_MOVES,
    STATEMENT_MOVES,
    AccountState,
    Chain,
    Channel,
    Direction,
    FileState,
    LineState,
    Source,
    StatementState,
)
from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import append_only, frozen_columns, moves_only, never_deleted
from apps.core.work import WorkRow, work_indexes


class BankConnection(OrganizationOwned):
    """A way to one bank: by hand, or by a channel whose adapter speaks for it."""

    name = models.CharField(max_length=100)
    channel = models.CharField(max_length=16, choices=Channel)
    fetched_up_to = models.BigIntegerField(
        default=0, db_comment="The bank's number of the last file taken over."
    )
    created_at = models.DateTimeField()

    class Meta:
        db_table = "banking_connection"
        constraints: ClassVar = [
            OwnedKey(name="bank_connection_key"),
            models.CheckConstraint(
                name="bank_connection_channel_is_known", condition=Q(channel__in=Channel.values)
            ),
        ]
        triggers: ClassVar = [
            never_deleted("bank_connections_stay"),
            frozen_columns(
                "bank_connection_keeps_its_channel", columns=["id", "organization_id", "channel"]
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.name


class BankAccount(OrganizationOwned):
    """
    One account of ours at a bank, in one currency, and its ledger account.

    The holder and the address are what a payment file must say of its debtor.
    """

    connection = OwnedForeignKey(BankConnection)
    ledger_account = OwnedForeignKey("ledger.LedgerAccount")
    name = models.CharField(max_length=100)
    identification_sealed = models.BinaryField(db_comment="IBAN or other id, as text.")
    identification_index = models.BinaryField(db_comment="Blind index, for a statement's account.")
    identification_tail = models.CharField(max_length=4)
    bic = models.CharField(max_length=11, default="")
    currency = models.CharField(max_length=3)
    holder_name = models.CharField(max_length=140)
    holder_address = models.JSONField(db_comment="As formats.pain001.Address.")
    zone = models.CharField(max_length=64, default="Europe/Berlin", db_comment="IANA name.")
    cut_off = models.TimeField(default="16:00")
    is_batch_booked = models.BooleanField(default=True)
    state = models.CharField(max_length=6, choices=AccountState, default=AccountState.OPEN)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "banking_account"
        constraints: ClassVar = [
            OwnedKey(name="bank_account_key"),
            SameOrganization(name="bank_account_owns_its_connection", field="connection"),
            SameOrganization(name="bank_account_owns_its_ledger_account", field="ledger_account"),
            models.UniqueConstraint(
                name="bank_account_is_added_once",
                fields=["organization", "identification_index", "currency"],
            ),
            models.UniqueConstraint(
                name="bank_account_has_one_ledger_account",
                fields=["organization", "ledger_account"],
            ),
            models.CheckConstraint(
                name="bank_account_state_is_known", condition=Q(state__in=AccountState.values)
            ),
            models.CheckConstraint(
                name="bank_account_currency_is_a_code", condition=Q(currency__regex="^[A-Z]{3}$")
            ),
        ]
        triggers: ClassVar = [
            never_deleted("bank_accounts_stay"),
            frozen_columns(
                "bank_account_is_what_it_was",
                columns=[
                    "id",
                    "organization_id",
                    "ledger_account_id",
                    "identification_index",
                    "identification_tail",
                    "currency",
                ],
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.name} …{self.identification_tail} {self.currency}"


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


class ConnectionPoll(WorkRow):
    """
    A connection to ask for files, for ever: each poll sets when the next one is.

    Often right after a file left or came, ever more rarely while the bank is quiet.
    """

    organization = models.ForeignKey(
        "accounts.Organization", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    connection = OwnedForeignKey(BankConnection)
    quiet_polls = models.PositiveIntegerField(
        default=0, db_comment="Polls since a file left or came."
    )

    class Meta:
        db_table = "banking_connection_poll"
        indexes: ClassVar = work_indexes("connection_poll")
        constraints: ClassVar = [
            SameOrganization(name="connection_poll_owns_its_connection", field="connection"),
            models.UniqueConstraint(
                name="connection_has_one_poll", fields=["organization", "connection"]
            ),
        ]


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
                | Q(state="waiting"),
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
    are taken in their own order.
    """

    organization = models.ForeignKey(
        "accounts.Organization", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    bank_account = OwnedForeignKey(BankAccount)

    class Meta:
        db_table = "banking_line_queue"
        indexes: ClassVar = work_indexes("bank_line_queue")
        constraints: ClassVar = [
            SameOrganization(name="line_queue_owns_its_account", field="bank_account"),
            models.UniqueConstraint(
                name="bank_account_has_one_line_queue", fields=["organization", "bank_account"]
            ),
        ]


class CalendarDay(models.Model):
    """A day on which T2 is closed, weekends left out; seeded so that the past stays as it was."""

    day = models.DateField(primary_key=True)
    name = models.CharField(max_length=100)
    seeded_at = models.DateTimeField()

    class Meta:
        db_table = "banking_calendar_day"
        triggers: ClassVar = [append_only("calendar_days_are_append_only")]

    @override
    def __str__(self) -> str:
        return f"{self.day}: {self.name}"
