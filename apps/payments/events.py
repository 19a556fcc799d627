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

    id: str
    customer: str
    amount: int
    currency: str
    method: str
    state: str
    virtual_reference: str | None
    reference: str
    received_at: datetime
