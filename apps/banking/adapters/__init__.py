"""
What speaks to banks. Called by tasks, never inside a transaction.

A port is `BankChannel`; each call is declined, unavailable (nothing was sent) or unknown.
"""

from uuid import UUID

from apps.banking import queries
from apps.banking.adapters.manual import ManualChannel
from apps.banking.adapters.port import BankChannel, FetchedFile
from apps.banking.adapters.sandbox import SandboxChannel
from apps.banking.models import BankConnection
from apps.banking.states import Channel

__all__ = ["BankChannel", "FetchedFile", "channel_for", "channel_of"]


def channel_of(connection: BankConnection) -> BankChannel:
    """Return the channel of a connection."""
    if connection.channel == Channel.SANDBOX:
        return SandboxChannel()
    return ManualChannel()


def channel_for(*, organization_id: UUID, bank_account_id: UUID) -> BankChannel:
    """
    Return the channel by which this account's files leave.

    :raises BankAccountNotFound: if the organization has no such account
    """
    account = queries.get_bank_account(
        organization_id=organization_id, bank_account_id=bank_account_id
    )
    return channel_of(
        queries.get_connection(organization_id=organization_id, connection_id=account.connection_id)
    )
