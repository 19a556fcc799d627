"""One worked call of each operation on bank and books, for the OpenAPI document."""

from typing import Any, Final

from apps.core.api.views import Example, page_of

_MORNING: Final = "2026-11-02T06:30:01Z"
_match: Final[dict[str, Any]] = {
    "id": "mat_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "bank_line": "bl_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "rule": "pay_in",
    "state": "live",
    "amount": 100_00,
    "currency": "EUR",
    "targets": [{"kind": "payment", "id": "pay_01kb1mzxe5f0q8w3v6y2n4r7ta"}],
    "created_at": _MORNING,
}
_break: Final[dict[str, Any]] = {
    "id": "brk_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "kind": "bank_only",
    "bank_account": "ba_01kb1mzxe5f0q8w3v6y2n4r7ta",
    "bank_line": "bl_01kb1mzxe5f0q8w3v6y2n4r7tb",
    "statement": None,
    "amount": -12_50,
    "currency": "EUR",
    "state": "open",
    "resolution": "",
    "reason": "",
    "first_seen_at": _MORNING,
    "resolved_at": None,
}
LIST_MATCHES: Final = Example(response=page_of(_match))
READ_MATCH: Final = Example(response=_match)
LIST_BREAKS: Final = Example(response=page_of(_break))
READ_BREAK: Final = Example(response=_break)
