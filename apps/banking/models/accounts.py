"""Ways to banks, when each is asked for files, and our accounts there."""

from typing import ClassVar, override

from django.db import models
from django.db.models import Q

from apps.banking.states import AccountState, Channel
from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import frozen_columns, never_deleted
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
