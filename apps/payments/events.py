"""Events of payments."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from apps.core.events import Event


@dataclass(frozen=True, kw_only=True)
class PaymentReceived(Event):
    """A customer's money came in and is available; `amount` is in minor units."""

    name: ClassVar[str] = "payments.payment.received"
    aggregate_type: ClassVar[str] = "payment"
    read_scope: ClassVar[str] = "payments:read"
    example: ClassVar[dict[str, object]] = {
        "id": "pay_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "customer": "cus_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "amount": 100_00,
        "currency": "EUR",
        "method": "bank_transfer",
        "state": "received",
        "virtual_reference": "vref_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "reference": "RF18 5390 0754 7034",
        "received_at": "2026-11-02T09:30:00Z",
    }

    id: str
    customer: str
    amount: int
    currency: str
    method: str
    "How it came in."
    state: str
    virtual_reference: str | None
    "The reference that led it to the customer."
    reference: str
    "The text of that reference; empty if there is none."
    received_at: datetime
    "When the bank booked it."
