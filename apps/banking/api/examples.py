"""One worked call of each operation on banking, for the OpenAPI document: a day's statement."""

from typing import Any, Final

from apps.core.api.views import Example, page_of

_ACCOUNT: Final = "ba_01kb1mzxe5f0q8w3v6y2n4r7ta"
_FILE: Final = "bf_01kb1mzxe5f0q8w3v6y2n4r7ta"
_STATEMENT: Final = "bst_01kb1mzxe5f0q8w3v6y2n4r7ta"
_MORNING: Final = "2026-11-02T06:30:00Z"
_account: Final[dict[str, Any]] = {
    "id": _ACCOUNT,
    "name": "Customers' money",
    "account_tail": "3000",
    "currency": "EUR",
    "state": "open",
    "created_at": "2026-11-01T09:30:00Z",
}
_received: Final[dict[str, Any]] = {
    "id": _FILE,
    "name": "statement-2026-11-01.xml",
    "direction": "in",
    "kind": "",
    "version": "",
    "state": "received",
    "reason_code": "",
    "reason": "",
    "problems": [],
    "warnings": [],
    "created_at": _MORNING,
    "done_at": None,
}
_imported: Final[dict[str, Any]] = {
    **_received,
    "kind": "camt.053",
    "version": "camt.053.001.08",
    "state": "imported",
    "done_at": "2026-11-02T06:30:01Z",
}
_statement: Final[dict[str, Any]] = {
    "id": _STATEMENT,
    "bank_file": _FILE,
    "bank_account": _ACCOUNT,
    "account_tail": "3000",
    "source": "statement",
    "state": "imported",
    "chain": "follows",
    "statement_id": "2026-11-01",
    "sequence": "213",
    "currency": "EUR",
    "opening_date": "2026-11-01",
    "opening_balance": 5_000_00,
    "closing_date": "2026-11-01",
    "closing_balance": 5_100_00,
    "lines": 1,
    "new_lines": 1,
    "created_at": _MORNING,
}
_line: Final[dict[str, Any]] = {
    "id": "bl_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "bank_account": _ACCOUNT,
    "statement": _STATEMENT,
    "source": "statement",
    "state": "matched",
    "reason": "",
    "booking_date": "2026-11-01",
    "value_date": "2026-11-01",
    "amount": 100_00,
    "currency": "EUR",
    "is_return": False,
    "end_to_end_id": "NOTPROVIDED",
    "account_servicer_reference": "2026110100001",
    "bank_code": "PMNT/RCDT/ESCT",
    "counterparty_tail": "6913",
    "creditor_references": ["RF18539007547034"],
    "occurrence": 0,
}
LIST_ACCOUNTS: Final = Example(response=page_of(_account))
# What is sent is a form with the file itself.
HAND_IN_FILE: Final = Example(response=_received)
LIST_FILES: Final = Example(response=page_of(_imported))
READ_FILE: Final = Example(response=_imported)
LIST_STATEMENTS: Final = Example(response=page_of(_statement))
READ_STATEMENT: Final = Example(response=_statement)
LIST_LINES: Final = Example(response=page_of(_line))
READ_LINE: Final = Example(response=_line)
