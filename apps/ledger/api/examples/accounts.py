"""Ledger accounts, and what stands on them: holds and monitors."""

from collections.abc import Mapping
from typing import Any, Final

from apps.core.api.views import Example, page_of
from apps.ledger.api.examples._story import (
    ANN,
    BOB,
    CAPTURE,
    HOLD,
    MORNING,
    SOME_DAY,
    TRANSFER,
    after,
)

_account: Final = {
    "id": ANN,
    "code": "wallets:ann:EUR",
    "type": "liability",
    "currency": "EUR",
    "status": "open",
    "min_available": 0,
    "posted": 100_00,
    "pending_out": 0,
    "pending_in": 0,
    "available": 100_00,
    "version": 1,
    "metadata": {"plan": "gold"},
    "created_at": MORNING,
}
_hold: Final = {
    "id": HOLD,
    "debit_account": ANN,
    "credit_account": BOB,
    "amount": 20_00,
    "currency": "EUR",
    "captured": 0,
    "remaining": 20_00,
    "status": "open",
    "multi_capture": False,
    "reference": "order-7",
    "expires_at": SOME_DAY,
    "created_at": MORNING,
    "metadata": {},
}
OPEN_ACCOUNT: Final = Example(
    request={
        "code": "wallets:ann:EUR",
        "type": "liability",
        "currency": "EUR",
        "metadata": {"plan": "gold"},
    },
    response={**_account, "posted": 0, "available": 0, "version": 0},
)
LIST_ACCOUNTS: Final = Example(response=page_of(_account))
READ_ACCOUNT: Final = Example(
    response={
        **_account,
        "pending_out": 20_00,
        "available": 80_00,
        "holds": [_hold],
        "has_more_holds": False,
    }
)
CHANGE_ACCOUNT: Final = Example(
    request={"min_available": -50_00, "reason": "A credit line of 50.00"},
    response={**_account, "min_available": -50_00},
)
STATEMENT: Final = Example(
    response={
        "ledger_account": ANN,
        "code": "wallets:ann:EUR",
        "type": "liability",
        "currency": "EUR",
        "clock": "effective",
        "since": "2026-10-31T23:00:00Z",
        "until": "2026-11-30T23:00:00Z",
        "opening_balance": 100_00,
        "closing_balance": 70_00,
        "data": [
            {
                "journal_entry": TRANSFER,
                "kind": "transfer",
                "reference": "order-5",
                "description": "A book",
                "effective_at": MORNING,
                "created_at": MORNING,
                "amount": 30_00,
                "balance": 70_00,
                "version": 2,
            }
        ],
        "has_more": False,
        "next": None,
        "previous": None,
    }
)

# --- Holds --------------------------------------------------------------------------------------


def _act(hold: Mapping[str, Any], available: int, *, entry: str | None = None) -> dict[str, Any]:
    bob = 20_00 if entry else 0
    return {
        "hold": hold,
        "journal_entry": entry,
        "balances": [
            after(ANN, 2 if entry else 1, available) | {"posted": 80_00 if entry else 100_00},
            after(BOB, 1 if entry else 0, bob),
        ],
        "dry_run": False,
    }


PLACE_HOLD: Final = Example(
    request={
        "debit_account": ANN,
        "credit_account": BOB,
        "amount": 20_00,
        "currency": "EUR",
        "reference": "order-7",
        "expires_at": SOME_DAY,
    },
    response=_act(_hold, 80_00),
)
LIST_HOLDS: Final = Example(response=page_of(_hold))
READ_HOLD: Final = Example(
    response={
        **_hold,
        "events": [
            {"kind": "placed", "amount": 20_00, "journal_entry": None, "created_at": MORNING}
        ],
        "has_more_events": False,
    }
)
CAPTURE_HOLD: Final = Example(
    request={"amount": 20_00},
    response=_act(
        {**_hold, "captured": 20_00, "remaining": 0, "status": "captured"}, 80_00, entry=CAPTURE
    ),
)
VOID_HOLD: Final = Example(
    request={}, response=_act({**_hold, "remaining": 0, "status": "voided"}, 100_00)
)

# --- Balance monitors ---------------------------------------------------------------------------

_watched: Final = {
    "ledger_account": ANN,
    "measure": "available",
    "direction": "below",
    "threshold": 10_00,
    "description": "Ann is nearly out of money",
}
_monitor: Final = {
    "id": "bm_01kb1nb3k5m7p9r1t3v5x7z9ba",
    **_watched,
    "active": True,
    "beyond": False,
    "triggered": 0,
    "triggered_at": None,
    "created_at": MORNING,
}
CREATE_MONITOR: Final = Example(request=_watched, response=_monitor)
LIST_MONITORS: Final = Example(response=page_of(_monitor))
READ_MONITOR: Final = Example(response=_monitor)
DELETE_MONITOR: Final = Example(response={**_monitor, "active": False})
