"""One worked call of each operation on money in, for the OpenAPI document."""

from typing import Any, Final

from apps.core.api.views import Example, page_of

_CUSTOMER: Final = "cus_01kb1mzxe5f0q8w3v6y2n4r7ta"
_REFERENCE: Final = "vref_01kb1mzxe5f0q8w3v6y2n4r7ta"
_LINE: Final = "bl_01kb1mzxe5f0q8w3v6y2n4r7ta"
_BOOKED: Final = "2026-11-01T00:00:00Z"
_MORNING: Final = "2026-11-02T06:30:01Z"
_reference: Final[dict[str, Any]] = {
    "id": _REFERENCE,
    "customer": _CUSTOMER,
    "reference": "RF18539007547034",
    "currency": "EUR",
    "label": "Rent",
    "state": "active",
    "created_at": "2026-10-01T09:30:00Z",
}
_payment: Final[dict[str, Any]] = {
    "id": "pay_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "customer": _CUSTOMER,
    "amount": 100_00,
    "currency": "EUR",
    "method": "bank_transfer",
    "state": "received",
    "virtual_reference": _REFERENCE,
    "bank_line": _LINE,
    "journal_entry": "je_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "sender_tail": "6913",
    "received_at": _BOOKED,
    "created_at": _MORNING,
}
_unmatched: Final[dict[str, Any]] = {
    "id": "um_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "amount": 25_00,
    "currency": "EUR",
    "reason": "unknown_reference",
    "state": "open",
    "candidates": [],
    "bank_line": "bl_01kb1mzxe5f0q8w3v6y2n4r7tb",
    "payment": None,
    "received_at": _BOOKED,
    "created_at": _MORNING,
}
CREATE_REFERENCE: Final = Example(
    request={"customer": _CUSTOMER, "currency": "EUR", "label": "Rent"}, response=_reference
)
LIST_REFERENCES: Final = Example(response=page_of(_reference))
READ_REFERENCE: Final = Example(response=_reference)
LIST_PAYMENTS: Final = Example(response=page_of(_payment))
READ_PAYMENT: Final = Example(response=_payment)
LIST_UNMATCHED: Final = Example(response=page_of(_unmatched))
