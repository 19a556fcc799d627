"""Virtual references: permanent, never reused."""

import secrets
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.accounts import queries as accounts
from apps.accounts.states import CustomerState
from apps.banking.formats.references import BODY_DIGITS, make_reference
from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken
from apps.core.ids import encode_id
from apps.payments import errors, queries
from apps.payments.models import VirtualReference
from apps.payments.operations._accounts import open_customer_accounts

_TRIES_MAX: Final = 5


@transactions.outermost
def create_virtual_reference(
    *,
    organization_id: UUID,
    customer_id: UUID,
    currency: str,
    label: str = "",
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> VirtualReference:
    """
    Give a customer a reference to be paid under, in one currency, any amount, for ever.

    The customer's ledger account in the currency is opened if there is none. Replaying the key
    returns the reference as it is now.

    :raises CustomerNotFound: if the organization has no such customer
    :raises CustomerCannotReceive: if the customer is frozen or closed
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "create_virtual_reference",
        customer_id,
        currency,
        label,
        prefix="vref",
    )
    if claim.replayed:
        return queries.get_virtual_reference(
            organization_id=organization_id, virtual_reference_id=claim.resource_id
        )
    customer = accounts.get_customer(organization_id=organization_id, customer_id=customer_id)
    if customer.state != CustomerState.OPEN:
        raise errors.CustomerCannotReceive(
            "A frozen or closed customer gets no new reference.", state=customer.state
        )
    opened = open_customer_accounts(
        organization_id=organization_id, customer_id=customer_id, currencies=[currency], now=now
    )
    reference = _insert(
        VirtualReference(
            id=claim.resource_id,
            organization_id=organization_id,
            customer_id=customer_id,
            ledger_account_id=opened[currency],
            currency=currency,
            label=label,
            created_at=now,
        )
    )
    audit.record(
        "payments.create_virtual_reference",
        reference,
        actor=actor,
        after={"customer": encode_id("cus", customer_id), "currency": currency},
    )
    return reference


def _insert(reference: VirtualReference) -> VirtualReference:
    """Insert it under a number nobody has; one in ten to the thirteenth is taken by chance."""
    for _try in range(_TRIES_MAX):
        reference.reference = make_reference(secrets.randbelow(10**BODY_DIGITS))
        VirtualReference.objects.bulk_create([reference], ignore_conflicts=True)
        if VirtualReference.objects.filter(
            organization_id=reference.organization_id, id=reference.id
        ).exists():
            return reference
    msg = "No free reference number was found."
    raise InvariantBroken(msg)
