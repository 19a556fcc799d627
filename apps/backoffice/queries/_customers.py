"""Everything about one customer, for one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.accounts.models import Customer
from apps.approvals import queries as requests
from apps.core.ids import encode_id
from apps.ledger import queries as ledger
from apps.payments import queries as payments
from apps.payments.models import Payment
from apps.payouts import queries as payouts
from apps.payouts.models import Destination, DestinationVersion, Payout


@dataclass(frozen=True, slots=True)
class CustomerPage:
    """What the apps know of one customer."""

    balances: Sequence[ledger.BalanceView]
    holds: Sequence[ledger.HoldView]
    payouts: Sequence[Payout]
    payments: Sequence[Payment]
    destinations: Sequence[tuple[Destination, DestinationVersion]]


def find_waiting_unfreeze(*, customer: Customer, now: datetime) -> UUID | None:
    """Return the request to lift the customer's freeze that may be decided at `now`, or None."""
    waiting = requests.find_open_request(
        organization_id=customer.organization_id,
        subject_type="customer",
        subject_id=customer.id,
        now=now,
    )
    return None if waiting is None else waiting.id


def customer_page(*, customer: Customer, limit: int, now: datetime) -> CustomerPage:
    """Return the customer's money, newest payouts and payments, and destinations."""
    owner = customer.organization_id
    prefix = f"customers:{encode_id('cus', customer.id)}:"
    # Balances and what is held of them are of one instant, so that what is held adds up.
    held = ledger.branch_with_holds(organization_id=owner, code_prefix=prefix, now=now, limit=limit)
    holds = [hold for _, found in held for hold in found]
    destinations = list(
        payouts.list_destinations(organization_id=owner, customer_id=customer.id)[:limit]
    )
    versions = payouts.versions_by_destination(destinations)
    return CustomerPage(
        balances=[balance for balance, _ in held],
        holds=sorted(holds, key=lambda hold: hold.id, reverse=True)[:limit],
        payouts=list(
            payouts.list_payouts(organization_id=owner, customer_id=customer.id).select_related(
                "destination_version"
            )[:limit]
        ),
        payments=list(
            payments.list_payments(organization_id=owner, customer_id=customer.id).select_related(
                "virtual_reference"
            )[:limit]
        ),
        destinations=[(one, versions[one.id]) for one in destinations],
    )
