"""One worked call of each operation on customers and keys, for the OpenAPI document."""

from typing import Any, Final

from apps.core.api.views import Example, page_of

_customer: Final[dict[str, Any]] = {
    "id": "cus_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "external_id": "user-4711",
    "name": "Åsa Öberg",
    "email": "asa@example.com",
    "state": "open",
    "metadata": {"plan": "gold"},
    "created_at": "2026-11-02T09:30:00Z",
}
ME: Final = Example(
    response={
        "organization": {
            "id": "org_01kb1mzxe5f0q8w3v6y2n4r7ta",
            "name": "Northwind",
            "mode": "test",
            "time_zone": "Europe/Stockholm",
        },
        "api_key": {
            "id": "ak_01kb1mzxe5f0q8w3v6y2n4r7ta",
            "name": "Checkout",
            "last4": "7g2k",
            "scopes": ["customers:read", "customers:write"],
            "expires_at": "2027-11-02T09:30:00Z",
            "kassa_version": "2026-11-01",
        },
    }
)
CREATE_CUSTOMER: Final = Example(
    request={
        "name": "Åsa Öberg",
        "email": "asa@example.com",
        "external_id": "user-4711",
        "currencies": ["EUR"],
        "metadata": {"plan": "gold"},
    },
    response=_customer,
)
LIST_CUSTOMERS: Final = Example(response=page_of(_customer))
READ_CUSTOMER: Final = Example(response=_customer)
CHANGE_CUSTOMER: Final = Example(
    request={"metadata": {"plan": "tin"}}, response={**_customer, "metadata": {"plan": "tin"}}
)
FREEZE_CUSTOMER: Final = Example(
    request={"reason": "The card was reported as stolen."},
    response={**_customer, "state": "frozen"},
)
