"""What payments does when somebody else's act needs it: one operation call each."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.ledger import operations
from apps.ledger.operations import AccountSpec


def customer_account_code(*, customer_id: UUID, currency: str) -> str:
    """Return the code of the account a customer spends from."""
    return f"customers:{encode_id('cus', customer_id)}:available:{currency}"


def open_customer_accounts(
    *,
    organization_id: UUID,
    customer_id: UUID,
    currencies: Sequence[str],
    actor: Actor,  # noqa: ARG001  (of the registered form; the accounts are opened by the house)
    now: datetime,
) -> None:
    """Open a new customer's account in each currency: a liability that never goes below 0."""
    specs = [
        AccountSpec(
            code=customer_account_code(customer_id=customer_id, currency=currency),
            type="liability",
            currency=currency,
            min_available_minor=0,
            internal=False,
        )
        for currency in currencies
    ]
    operations.open_accounts(organization_id=organization_id, accounts=specs, now=now)
