"""Where a payout's money stands: its ledger accounts, and the bank account it leaves from."""

from dataclasses import dataclass
from uuid import UUID

from apps.banking import queries as banking
from apps.banking.states import AccountState
from apps.core.ids import encode_id
from apps.payouts.rules import CutOff


def available_code(*, customer_id: UUID, currency: str) -> str:
    """Return the code of the ledger account that a customer's payouts leave from."""
    return f"customers:{encode_id('cus', customer_id)}:available:{currency}"


def in_transit_code(currency: str) -> str:
    """Return the code of the ledger account that holds what is on its way to banks."""
    return f"payouts:in_transit:{currency}"


def fees_code(currency: str) -> str:
    """Return the code of the ledger account that the fees of payouts go to."""
    return f"fees:payouts:{currency}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayingAccount:
    """The bank account that payouts leave from, and when its bank closes."""

    id: UUID
    cut_off: CutOff


def find_paying_account(
    *, organization_id: UUID, currency: str, bank_account_id: UUID | None = None
) -> PayingAccount | None:
    """Return that account, or the oldest open one in the currency; None if there is none."""
    accounts = banking.list_bank_accounts(organization_id=organization_id).filter(
        currency=currency, state=AccountState.OPEN
    )
    if bank_account_id is not None:
        accounts = accounts.filter(id=bank_account_id)
    found = accounts.order_by("id").first()
    if found is None:
        return None
    return PayingAccount(id=found.id, cut_off=CutOff(at=found.cut_off, zone=found.zone))
