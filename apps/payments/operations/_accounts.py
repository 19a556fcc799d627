"""The ledger accounts a customer is paid on and spends from."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from apps.core import transactions
from apps.core.ids import encode_id
from apps.ledger import operations as ledger
from apps.ledger.operations import AccountSpec


@transactions.required
def open_customer_accounts(
    *, organization_id: UUID, customer_id: UUID, currencies: Sequence[str], now: datetime
) -> dict[str, UUID]:
    """
    Open a customer's available account in each currency; return the ids by currency.

    It is a liability that never goes below 0, and that API transfers reach. One that stands is
    returned.
    """
    specs = {
        currency: AccountSpec(
            code=f"customers:{encode_id('cus', customer_id)}:available:{currency}",
            type="liability",
            currency=currency,
            min_available_minor=0,
            internal=False,
        )
        for currency in currencies
    }
    opened = ledger.open_accounts(
        organization_id=organization_id, accounts=list(specs.values()), now=now
    )
    return {currency: opened[spec.code] for currency, spec in specs.items()}
