"""One worked call of each operation on money out, for the OpenAPI document."""

from typing import Any, Final

from apps.core.api.views import Example, page_of

_CUSTOMER: Final = "cus_01kb1mzxe5f0q8w3v6y2n4r7ta"
_DESTINATION: Final = "dst_01kb1mzxe5f0q8w3v6y2n4r7ta"
_MORNING: Final = "2026-11-02T09:30:00Z"
_destination: Final[dict[str, Any]] = {
    "id": _DESTINATION,
    "customer": _CUSTOMER,
    "state": "verified",
    "iban": "FI…6913",
    "country": "FI",
    "iban_tail": "6913",
    "bic": None,
    "currency": "EUR",
    "usable_from": "2026-11-03T09:30:00Z",
    "created_at": _MORNING,
}
_payout: Final[dict[str, Any]] = {
    "id": "po_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "state": "approved",
    "customer": _CUSTOMER,
    "destination": {"id": _DESTINATION, "country": "FI", "iban_tail": "6913"},
    "amount": 100_00,
    "requested_amount": 100_00,
    "fee": 25,
    "returned_amount": 0,
    "currency": "EUR",
    "rail": "sct",
    "hold_reasons": [],
    "available_at": None,
    "execution_date": None,
    "remittance": "Salary November",
    "creditor_reference": None,
    "external_id": "salary-2026-11",
    "purpose": None,
    "metadata": {"run": "2026-11"},
    "approvals": None,
    "failure": None,
    "created_at": _MORNING,
    "times": {"requested": _MORNING, "approved": _MORNING},
    "sequence": 2,
}
CREATE_DESTINATION: Final = Example(
    request={
        "customer": _CUSTOMER,
        "iban": "FI40 8023 2341 2169 13",
        "holder_name": "Åsa Öberg",
        "currency": "EUR",
        "address": {"town": "Helsinki", "country": "FI"},
    },
    response=_destination,
)
LIST_DESTINATIONS: Final = Example(response=page_of(_destination))
READ_DESTINATION: Final = Example(response=_destination)
DISABLE_DESTINATION: Final = Example(
    request={"reason": "The customer has another bank now."},
    response={**_destination, "state": "disabled"},
)
REQUEST_PAYOUT: Final = Example(
    request={
        "customer": _CUSTOMER,
        "destination": _DESTINATION,
        "amount": 100_00,
        "currency": "EUR",
        "remittance": "Salary November",
        "external_id": "salary-2026-11",
        "metadata": {"run": "2026-11"},
    },
    response=_payout,
)
LIST_PAYOUTS: Final = Example(response=page_of(_payout))
READ_PAYOUT: Final = Example(response=_payout)
CANCEL_PAYOUT: Final = Example(
    request={"reason": "It was asked for twice."},
    response={
        **_payout,
        "state": "canceled",
        "times": {**_payout["times"], "canceled": "2026-11-02T09:45:00Z"},
        "sequence": 3,
    },
)
