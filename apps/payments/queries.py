"""Reads of payments."""

from collections.abc import Collection
from uuid import UUID

from django.db.models import QuerySet

from apps.accounts import queries as accounts
from apps.accounts.states import CustomerState
from apps.ledger import queries as ledger
from apps.ledger.rules import AccountStatus
from apps.payments import errors
from apps.payments.models import Payment, UnmatchedMoney, VirtualReference
from apps.payments.rules import KnownReference


def get_virtual_reference(*, organization_id: UUID, virtual_reference_id: UUID) -> VirtualReference:
    """
    Return the virtual reference.

    :raises VirtualReferenceNotFound: if the organization has no such reference
    """
    found = VirtualReference.objects.filter(
        organization_id=organization_id, id=virtual_reference_id
    ).first()
    if found is None:
        raise errors.VirtualReferenceNotFound("There is no such virtual reference.")
    return found


def list_virtual_references(
    *, organization_id: UUID, customer_id: UUID | None = None, reference: str | None = None
) -> QuerySet[VirtualReference]:
    """Return references, newest first, of one customer or one text where given."""
    rows = VirtualReference.objects.filter(organization_id=organization_id)
    if reference is not None:
        rows = rows.filter(reference=reference)
    if customer_id is not None:
        rows = rows.filter(customer_id=customer_id)
    return rows.order_by("-id")


def find_known_references(
    *, organization_id: UUID, references: Collection[str]
) -> dict[str, KnownReference]:
    """Return those of these texts that are references of ours, and whether they can take money."""
    rows = list(
        VirtualReference.objects.filter(
            organization_id=organization_id, reference__in=list(references)
        )
    )
    if not rows:
        return {}
    open_customers = set(
        accounts.list_customers(organization_id=organization_id)
        .filter(id__in={row.customer_id for row in rows}, state=CustomerState.OPEN)
        .values_list("id", flat=True)
    )
    balances = ledger.list_balances(
        organization_id=organization_id, ids=list({row.ledger_account_id for row in rows})
    )
    open_accounts = {view.account_id for view in balances if view.status == AccountStatus.OPEN}
    return {
        row.reference: KnownReference(
            id=row.id,
            reference=row.reference,
            customer_id=row.customer_id,
            ledger_account_id=row.ledger_account_id,
            currency=row.currency,
            state=row.state,
            customer_is_open=row.customer_id in open_customers,
            account_is_open=row.ledger_account_id in open_accounts,
        )
        for row in rows
    }


def get_payment(*, organization_id: UUID, payment_id: UUID) -> Payment:
    """
    Return the payment.

    :raises PaymentNotFound: if the organization has no such payment
    """
    found = Payment.objects.filter(organization_id=organization_id, id=payment_id).first()
    if found is None:
        raise errors.PaymentNotFound("There is no such payment.")
    return found


def list_payments(
    *,
    organization_id: UUID,
    customer_id: UUID | None = None,
    reference: VirtualReference | None = None,
) -> QuerySet[Payment]:
    """
    Return payments, newest first, of one customer where given.

    With a reference, of the customer whose it is for ever: its own are among those.
    """
    rows = Payment.objects.filter(organization_id=organization_id)
    if reference is not None:
        rows = rows.filter(customer_id=reference.customer_id)
    if customer_id is not None:
        rows = rows.filter(customer_id=customer_id)
    return rows.order_by("-id")


def list_unmatched_money(*, organization_id: UUID) -> QuerySet[UnmatchedMoney]:
    """Return money nobody owned when it came, newest first."""
    return UnmatchedMoney.objects.filter(organization_id=organization_id).order_by("-id")
