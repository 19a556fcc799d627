"""The states of payments and of money nobody owns yet, and the moves between them."""

from collections.abc import Mapping
from typing import Final

from django.db import models


class Method(models.TextChoices):
    BANK_TRANSFER = "bank_transfer"


class PaymentState(models.TextChoices):
    """A transfer that the bank booked is final; payments through a provider add theirs."""

    RECEIVED = "received"


class ReferenceState(models.TextChoices):
    ACTIVE = "active"
    DISABLED = "disabled"


class UnmatchedState(models.TextChoices):
    OPEN = "open"
    ASSIGNED = "assigned"
    SENT_BACK = "sent_back"


class UnmatchedReason(models.TextChoices):
    """Why money that came in is not on a customer's account."""

    NO_REFERENCE = "no_reference"
    UNKNOWN_REFERENCE = "unknown_reference"
    AMBIGUOUS_REFERENCE = "ambiguous_reference"
    CURRENCY_DIFFERS = "currency_differs"
    REFERENCE_DISABLED = "reference_disabled"
    CUSTOMER_NOT_OPEN = "customer_not_open"
    LEDGER_ACCOUNT_NOT_OPEN = "ledger_account_not_open"
    UNMATCHED_RETURN = "unmatched_return"


PAYMENT_MOVES: Final[Mapping[PaymentState, frozenset[PaymentState]]] = {
    PaymentState.RECEIVED: frozenset()
}
REFERENCE_MOVES: Final[Mapping[ReferenceState, frozenset[ReferenceState]]] = {
    ReferenceState.ACTIVE: frozenset({ReferenceState.DISABLED}),
    ReferenceState.DISABLED: frozenset({ReferenceState.ACTIVE}),
}
UNMATCHED_MOVES: Final[Mapping[UnmatchedState, frozenset[UnmatchedState]]] = {
    UnmatchedState.OPEN: frozenset({UnmatchedState.ASSIGNED, UnmatchedState.SENT_BACK})
}
