"""What payments does when somebody else's act needs it: one operation call each."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from apps.core.actors import Actor
from apps.payments import operations


def open_customer_accounts(
    *,
    organization_id: UUID,
    customer_id: UUID,
    currencies: Sequence[str],
    actor: Actor,  # noqa: ARG001  (of the registered form; the accounts are opened by the house)
    now: datetime,
) -> None:
    """Give a new customer an account in each currency."""
    operations.open_customer_accounts(
        organization_id=organization_id,
        customer_id=customer_id,
        currencies=currencies,
        now=now,
    )
