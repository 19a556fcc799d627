"""Ways to banks, and our accounts at them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import time
from typing import Final
from uuid import UUID

from django.db.models import QuerySet

from apps.banking import errors
from apps.banking.formats.pain001 import Address
from apps.banking.models import BankAccount, BankConnection
from apps.banking.states import AccountState
from apps.core import encryption

IDENTIFICATION_COLUMN: Final = "banking_account.identification"
_ACCOUNT_PURPOSE: Final = "bank_account"


def get_connection(*, organization_id: UUID, connection_id: UUID) -> BankConnection:
    """
    Return the bank connection.

    :raises BankConnectionNotFound: if the organization has no such connection
    """
    found = BankConnection.objects.filter(organization_id=organization_id, id=connection_id).first()
    if found is None:
        raise errors.BankConnectionNotFound("There is no such bank connection.")
    return found


def get_bank_account(*, organization_id: UUID, bank_account_id: UUID) -> BankAccount:
    """
    Return the bank account.

    :raises BankAccountNotFound: if the organization has no such account
    """
    found = BankAccount.objects.filter(organization_id=organization_id, id=bank_account_id).first()
    if found is None:
        raise errors.BankAccountNotFound("There is no such bank account.")
    return found


def list_bank_accounts(*, organization_id: UUID) -> QuerySet[BankAccount]:
    """Return the organization's accounts, newest first."""
    return BankAccount.objects.filter(organization_id=organization_id).order_by("-id")


def find_accounts_by_identification(
    *, organization_id: UUID, indexes: Iterable[bytes]
) -> dict[tuple[bytes, str], BankAccount]:
    """Return accounts by the blind index of their identification, and currency."""
    rows = BankAccount.objects.filter(
        organization_id=organization_id, identification_index__in=list(indexes)
    )
    return {(bytes(row.identification_index), row.currency): row for row in rows}


def lock_bank_accounts(*, organization_id: UUID, ids: Collection[UUID]) -> None:
    """Lock these accounts in ascending order: one import at a time extends an account's chain."""
    list(
        BankAccount.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id__in=ids)
        .order_by("id")
        .values_list("id", flat=True)
    )


def identification_index(*, organization_id: UUID, identification: str) -> bytes:
    """Return the blind index by which a statement finds its account."""
    compact = "".join(identification.split()).upper()
    return encryption.blind_index(organization_id, _ACCOUNT_PURPOSE, compact)


def get_identification(*, account: BankAccount) -> str:
    """Return the account's IBAN, or other id, in clear."""
    return encryption.unseal(
        account.organization_id,
        IDENTIFICATION_COLUMN,
        account.id,
        bytes(account.identification_sealed),
    )


def list_identifications(*, organization_id: UUID, connection_id: UUID) -> list[str]:
    """Return the IBANs of the connection's accounts, in clear: what its bank is asked about."""
    rows = BankAccount.objects.filter(
        organization_id=organization_id, connection_id=connection_id
    ).order_by("id")
    return [get_identification(account=row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutAccount:
    """What a payment file says of the account it debits, and when that account's bank closes."""

    id: UUID
    connection_id: UUID
    ledger_account_id: UUID
    currency: str
    iban: str
    bic: str | None
    holder_name: str
    address: Address
    zone: str
    cut_off: time
    is_batch_booked: bool


def get_payout_account(
    *, organization_id: UUID, currency: str, bank_account_id: UUID | None = None
) -> PayoutAccount:
    """
    Return the account that payouts in this currency leave from: that one, or the oldest open one.

    :raises BankAccountNotFound: if there is none in the currency
    """
    rows = BankAccount.objects.filter(
        organization_id=organization_id, currency=currency, state=AccountState.OPEN
    )
    if bank_account_id is not None:
        rows = rows.filter(id=bank_account_id)
    found = rows.order_by("id").first()
    if found is None:
        raise errors.BankAccountNotFound("There is no open bank account in this currency.")
    return PayoutAccount(
        id=found.id,
        connection_id=found.connection_id,
        ledger_account_id=found.ledger_account_id,
        currency=found.currency,
        iban=get_identification(account=found),
        bic=found.bic or None,
        holder_name=found.holder_name,
        address=Address(
            **{**found.holder_address, "lines": tuple(found.holder_address.get("lines", ()))}
        ),
        zone=found.zone,
        cut_off=found.cut_off,
        is_batch_booked=found.is_batch_booked,
    )
