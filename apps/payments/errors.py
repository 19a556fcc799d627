"""Every refusal of payments, with its public code."""

from apps.core.errors import NotFound, StateConflict


class PaymentNotFound(NotFound):
    """The organization has no such payment."""

    code = "payment_not_found"


class VirtualReferenceNotFound(NotFound):
    """The organization has no such virtual reference."""

    code = "virtual_reference_not_found"


class CustomerCannotReceive(StateConflict):
    """The customer is frozen or closed, and gets no new reference."""

    code = "customer_cannot_receive"
