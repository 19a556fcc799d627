"""
One worked call of each of the ledger's operations, for the OpenAPI document.

They are one story: Ann has 100.00 EUR, Bob sells her something, Kassa's client keeps a fee of it.
Tests hold each against the document's own schemas.
"""

from collections.abc import Mapping
from typing import Any, Final

from apps.core.api.views import Example

_ANN: Final = "la_01kb1mzxe5f0q8w3v6y2n4r7ta"
_BOB: Final = "la_01kb1mzxe5f0q8w3v6y2n4r7tb"
_FEES: Final = "la_01kb1mzxe5f0q8w3v6y2n4r7tc"
_DOLLARS: Final = "la_01kb1mzxe5f0q8w3v6y2n4r7td"
_EUROS_OWNED: Final = "la_01kb1mzxe5f0q8w3v6y2n4r7te"
_DOLLARS_OWNED: Final = "la_01kb1mzxe5f0q8w3v6y2n4r7tf"
_TRANSFER: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xa"
_ENTRY: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xb"
_CAPTURE: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xc"
_REVERSAL: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xd"
_SOLD: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xe"
_BOUGHT: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xf"
_REVERSAL_OF_BOUGHT: Final = "je_01kb1n2h8ze1s9c4m7k3p5w6xg"
_HOLD: Final = "ho_01kb1n5t2wd7r8x9a1c3e5g7ja"
_MORNING: Final = "2026-11-02T09:30:00Z"
_NOON: Final = "2026-11-02T12:00:00Z"
_EVENING: Final = "2026-11-02T18:00:00Z"


def _page(*rows: Mapping[str, Any]) -> dict[str, Any]:
    return {"data": list(rows), "has_more": False, "next": None, "previous": None}


def _after(account: str, version: int, available: int) -> dict[str, Any]:
    return {
        "ledger_account": account,
        "version": version,
        "posted": available,
        "available": available,
    }


# --- Ledger accounts ----------------------------------------------------------------------------

_account: Final = {
    "id": _ANN,
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
}
_hold: Final = {
    "id": _HOLD,
    "debit_account": _ANN,
    "credit_account": _BOB,
    "amount": 20_00,
    "currency": "EUR",
    "captured": 0,
    "remaining": 20_00,
    "status": "open",
    "multi_capture": False,
    "reference": "order-7",
    "expires_at": _EVENING,
    "created_at": _MORNING,
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
LIST_ACCOUNTS: Final = Example(response=_page(_account))
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
        "ledger_account": _ANN,
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
                "journal_entry": _TRANSFER,
                "kind": "transfer",
                "reference": "order-5",
                "description": "A book",
                "effective_at": _MORNING,
                "created_at": _MORNING,
                "amount": 30_00,
                "balance": 70_00,
                "version": 2,
            }
        ],
        "has_more": False,
        "next": None,
    }
)

# --- Transfers ----------------------------------------------------------------------------------

_asked: Final = {
    "debit_account": _ANN,
    "credit_account": _BOB,
    "amount": 30_00,
    "currency": "EUR",
    "reference": "order-5",
    "description": "A book",
    "metadata": {"shelf": "12"},
}
_transfer: Final = {
    "id": _TRANSFER,
    **_asked,
    "effective_at": _MORNING,
    "balances": [_after(_ANN, 2, 70_00), _after(_BOB, 1, 30_00)],
    "dry_run": False,
}
POST_TRANSFER: Final = Example(request=_asked, response=_transfer)
LIST_TRANSFERS: Final = Example(response=_page(_transfer))
READ_TRANSFER: Final = Example(response=_transfer)
POST_BATCH: Final = Example(
    request={
        "mode": "independent",
        "transfers": [
            {"debit_account": _ANN, "credit_account": _BOB, "amount": 30_00, "currency": "EUR"},
            {"debit_account": _ANN, "credit_account": _BOB, "amount": 90_00, "currency": "EUR"},
        ],
    },
    response={
        "id": "tb_01kb1n9c6vf2h4k6m8p0r2t4va",
        "posted": 1,
        "refused": 1,
        "outcomes": [
            {
                "status": "posted",
                "transfer": _TRANSFER,
                "amount": 30_00,
                "code": None,
                "detail": None,
                "details": None,
            },
            {
                "status": "refused",
                "transfer": None,
                "amount": None,
                "code": "insufficient_funds",
                "detail": "The available balance does not cover this.",
                "details": {
                    "ledger_account": _ANN,
                    "available": 70_00,
                    "requested": 90_00,
                    "min_available": 0,
                },
            },
        ],
        "balances": [_after(_ANN, 2, 70_00), _after(_BOB, 1, 30_00)],
        "dry_run": False,
    },
)

# --- Journal entries and postings ---------------------------------------------------------------

_about: Final = {
    "kind": "entry",
    "reference": "order-6",
    "description": "A lamp, less our fee",
    "effective_at": _NOON,
    "created_at": _NOON,
}


def _posting(account: str, code: str, amount: int, version: int, balance: int) -> dict[str, Any]:
    return {
        "ledger_account": account,
        "code": code,
        "amount": amount,
        "currency": "EUR",
        "version": version,
        "balance_after": balance,
    }


_postings: Final = [
    _posting(_ANN, "wallets:ann:EUR", 10_00, 3, 60_00),
    _posting(_BOB, "wallets:bob:EUR", -9_00, 2, 39_00),
    _posting(_FEES, "earnings:fees:EUR", -1_00, 1, 1_00),
]
_entry: Final = {
    "id": _ENTRY,
    **_about,
    "reverses": None,
    "reversed_by": None,
    "metadata": {"shelf": "12"},
    "postings": _postings,
}
POST_ENTRY: Final = Example(
    request={
        "postings": [
            {"ledger_account": row["ledger_account"], "amount": row["amount"], "currency": "EUR"}
            for row in _postings
        ],
        "reference": "order-6",
        "description": "A lamp, less our fee",
        "metadata": {"shelf": "12"},
    },
    response={
        **_entry,
        "balances": [_after(_ANN, 3, 60_00), _after(_BOB, 2, 39_00), _after(_FEES, 1, 1_00)],
        "dry_run": False,
    },
)
LIST_ENTRIES: Final = Example(response=_page(_entry))
READ_ENTRY: Final = Example(response=_entry)
LIST_POSTINGS: Final = Example(
    response=_page({**_postings[0], "journal_entry": _ENTRY, "number": 1, **_about})
)
ANNOTATE_ENTRY: Final = Example(
    request={"metadata": {"shelf": "14"}}, response={**_entry, "metadata": {"shelf": "14"}}
)
LIST_METADATA: Final = Example(
    response=_page(
        {"number": 1, "metadata": {"shelf": "14"}, "created_at": _EVENING},
        {"number": 0, "metadata": {"shelf": "12"}, "created_at": _NOON},
    )
)

# --- Reversals ----------------------------------------------------------------------------------

_undone: Final = {
    "journal_entries": [_REVERSAL],
    "balances": [_after(_ANN, 3, 100_00), _after(_BOB, 2, 0)],
    "dry_run": False,
}
REVERSE_ENTRY: Final = Example(request={"reason": "Sent back"}, response=_undone)
CAN_REVERSE: Final = Example(
    response={
        "reversible": False,
        "code": "already_reversed",
        "detail": "This journal entry was reversed.",
        "details": {"reversal": _REVERSAL},
    }
)
REVERSE_ENTRIES: Final = Example(
    request={"journal_entries": [_TRANSFER], "at": "original", "reason": "Sent back"},
    response=_undone,
)

# --- Holds --------------------------------------------------------------------------------------


def _act(hold: Mapping[str, Any], available: int, *, entry: str | None = None) -> dict[str, Any]:
    bob = 20_00 if entry else 0
    return {
        "hold": hold,
        "journal_entry": entry,
        "balances": [
            _after(_ANN, 2 if entry else 1, available) | {"posted": 80_00 if entry else 100_00},
            _after(_BOB, 1 if entry else 0, bob),
        ],
        "dry_run": False,
    }


PLACE_HOLD: Final = Example(
    request={
        "debit_account": _ANN,
        "credit_account": _BOB,
        "amount": 20_00,
        "currency": "EUR",
        "reference": "order-7",
        "expires_at": _EVENING,
    },
    response=_act(_hold, 80_00),
)
LIST_HOLDS: Final = Example(response=_page(_hold))
READ_HOLD: Final = Example(
    response={
        **_hold,
        "events": [
            {"kind": "placed", "amount": 20_00, "journal_entry": None, "created_at": _MORNING}
        ],
        "has_more_events": False,
    }
)
CAPTURE_HOLD: Final = Example(
    request={"amount": 20_00},
    response=_act(
        {**_hold, "captured": 20_00, "remaining": 0, "status": "captured"}, 80_00, entry=_CAPTURE
    ),
)
VOID_HOLD: Final = Example(
    request={}, response=_act({**_hold, "remaining": 0, "status": "voided"}, 100_00)
)

# --- Balance monitors ---------------------------------------------------------------------------

_watched: Final = {
    "ledger_account": _ANN,
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
    "created_at": _MORNING,
}
CREATE_MONITOR: Final = Example(request=_watched, response=_monitor)
LIST_MONITORS: Final = Example(response=_page(_monitor))
READ_MONITOR: Final = Example(response=_monitor)
DELETE_MONITOR: Final = Example(response={**_monitor, "active": False})

# --- FX -----------------------------------------------------------------------------------------

_quoted: Final = {
    "from_account": _ANN,
    "to_account": _DOLLARS,
    "amount": 10_00,
    "currency": "EUR",
    "bought_currency": "USD",
    "rate": "1.08456",
    "source": "ecb",
    "quoted_at": _MORNING,
    "reference": "trip-1",
    "description": "For the trip",
}
_exchange: Final = {
    "id": "fx_01kb1nd4m6p8r0t2v4x6z8a0ca",
    **_quoted,
    "bought_amount": 10_84,
    "remainder": "0.56",
    "sold_entry": _SOLD,
    "bought_entry": _BOUGHT,
    "effective_at": _MORNING,
    "created_at": _MORNING,
    "metadata": {},
}
EXCHANGE: Final = Example(
    request=_quoted,
    response={
        **_exchange,
        "balances": [_after(_ANN, 2, 90_00), _after(_DOLLARS, 1, 10_84)],
        "dry_run": False,
    },
)
LIST_EXCHANGES: Final = Example(response=_page(_exchange))
READ_EXCHANGE: Final = Example(response=_exchange | {"reversals": None})
REVERSE_EXCHANGE: Final = Example(
    request={"reason": "The trip is off"},
    response={
        "journal_entries": [_REVERSAL, _REVERSAL_OF_BOUGHT],
        "balances": [
            _after(_ANN, 3, 100_00),
            _after(_EUROS_OWNED, 2, 0),
            _after(_DOLLARS, 2, 0),
            _after(_DOLLARS_OWNED, 2, 0),
        ],
        "dry_run": False,
    },
)

# --- Through time -------------------------------------------------------------------------------

BALANCES: Final = Example(
    response={
        "at": _NOON,
        "clock": "effective",
        "data": [
            {
                "ledger_account": account,
                "code": code,
                "type": "liability",
                "currency": "EUR",
                "posted": posted,
            }
            for account, code, posted in (
                (_ANN, "wallets:ann:EUR", 60_00),
                (_BOB, "wallets:bob:EUR", 39_00),
            )
        ],
        "totals": [{"type": "liability", "currency": "EUR", "posted": 99_00}],
        "has_more": False,
        "next": None,
    }
)
_moved: Final = {"opening": -100_00, "debits": 40_00, "credits": 39_00, "closing": -99_00}
TRIAL_BALANCE: Final = Example(
    response={
        "period": "2026-11",
        "state": "open",
        "at": None,
        "data": [
            {
                "ledger_account": _ANN,
                "code": "wallets:ann:EUR",
                "type": "liability",
                "currency": "EUR",
                "opening": -100_00,
                "debits": 40_00,
                "credits": 0,
                "closing": -60_00,
            },
            {
                "ledger_account": _BOB,
                "code": "wallets:bob:EUR",
                "type": "liability",
                "currency": "EUR",
                "opening": 0,
                "debits": 0,
                "credits": 39_00,
                "closing": -39_00,
            },
        ],
        # Of the branch `wallets`, whose fee went to another one.
        "totals": [{"currency": "EUR", **_moved, "balanced": False}],
        "has_more": False,
        "next": None,
    }
)
BALANCE_SHEET: Final = Example(
    response={
        "at": _NOON,
        "data": [
            {
                "currency": "EUR",
                "assets": 100_00,
                "liabilities": 99_00,
                "equity": 0,
                "income": 1_00,
                "expenses": 0,
                "result": 1_00,
                "balanced": True,
            }
        ],
    }
)
_month: Final = {
    "period": "2026-10",
    "starts_at": "2026-09-30T22:00:00Z",
    "ends_at": "2026-10-31T23:00:00Z",
    "state": "open",
    "closings": 0,
    "closed_at": None,
}
_approval: Final = {"id": "apr_01kb1nf5n7q9s1t3v5x7z9b1da", "state": "open"}
LIST_PERIODS: Final = Example(response=_page(_month))
READ_PERIOD: Final = Example(
    response={
        **_month,
        "blockers": [
            {"code": "period_out_of_order", "detail": "September 2026 comes first: it is open."}
        ],
    }
)
CLOSE_PERIOD: Final = Example(
    request={"reason": "October is reconciled"}, response={**_month, "approval": _approval}
)
REOPEN_PERIOD: Final = Example(
    request={"reason": "A late invoice"},
    response={
        **_month,
        "state": "closed",
        "closings": 1,
        "closed_at": "2026-11-03T08:00:00Z",
        "approval": _approval,
    },
)
