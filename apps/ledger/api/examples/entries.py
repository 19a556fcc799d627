"""What is posted: transfers, journal entries, reversals and exchanges."""

from typing import Any, Final

from apps.core.api.views import Example, page_of
from apps.ledger.api.examples._story import (
    ANN,
    BOB,
    BOUGHT,
    DOLLARS,
    DOLLARS_OWNED,
    ENTRY,
    EUROS_OWNED,
    EVENING,
    FEES,
    MORNING,
    NOON,
    QUOTED,
    REVERSAL,
    REVERSAL_OF_BOUGHT,
    SOLD,
    TRANSFER,
    after,
)

# --- Transfers ----------------------------------------------------------------------------------

_asked: Final = {
    "debit_account": ANN,
    "credit_account": BOB,
    "amount": 30_00,
    "currency": "EUR",
    "reference": "order-5",
    "description": "A book",
    "metadata": {"shelf": "12"},
}
_transfer: Final = {
    "id": TRANSFER,
    **_asked,
    "effective_at": MORNING,
    "created_at": MORNING,
    "balances": [after(ANN, 2, 70_00), after(BOB, 1, 30_00)],
    "dry_run": False,
}
POST_TRANSFER: Final = Example(request=_asked, response=_transfer)
LIST_TRANSFERS: Final = Example(response=page_of(_transfer))
READ_TRANSFER: Final = Example(response=_transfer)
_batch: Final = {
    "id": "tb_01kb1n9c6vf2h4k6m8p0r2t4va",
    "posted": 1,
    "refused": 1,
    "outcomes": [
        {
            "status": "posted",
            "transfer": TRANSFER,
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
                "ledger_account": ANN,
                "available": 70_00,
                "requested": 90_00,
                "min_available": 0,
            },
        },
    ],
    "balances": [after(ANN, 2, 70_00), after(BOB, 1, 30_00)],
    "created_at": MORNING,
    "dry_run": False,
}
POST_BATCH: Final = Example(
    request={
        "mode": "independent",
        "transfers": [
            {"debit_account": ANN, "credit_account": BOB, "amount": 30_00, "currency": "EUR"},
            {"debit_account": ANN, "credit_account": BOB, "amount": 90_00, "currency": "EUR"},
        ],
    },
    response=_batch,
)
READ_BATCH: Final = Example(response=_batch)

# --- Journal entries and postings ---------------------------------------------------------------

_about: Final = {
    "kind": "entry",
    "reference": "order-6",
    "description": "A lamp, less our fee",
    "effective_at": NOON,
    "created_at": NOON,
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
    _posting(ANN, "wallets:ann:EUR", 10_00, 3, 60_00),
    _posting(BOB, "wallets:bob:EUR", -9_00, 2, 39_00),
    _posting(FEES, "earnings:fees:EUR", -1_00, 1, 1_00),
]
_entry: Final = {
    "id": ENTRY,
    **_about,
    "reverses": None,
    "reversed_by": None,
    "hold": None,
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
        "balances": [after(ANN, 3, 60_00), after(BOB, 2, 39_00), after(FEES, 1, 1_00)],
        "dry_run": False,
    },
)
LIST_ENTRIES: Final = Example(response=page_of(_entry))
READ_ENTRY: Final = Example(response=_entry)
LIST_POSTINGS: Final = Example(
    response=page_of({**_postings[0], "journal_entry": ENTRY, "number": 1, **_about})
)
ANNOTATE_ENTRY: Final = Example(
    request={"metadata": {"shelf": "14"}}, response={**_entry, "metadata": {"shelf": "14"}}
)
LIST_METADATA: Final = Example(
    response=page_of(
        {"number": 1, "metadata": {"shelf": "14"}, "created_at": EVENING},
        {"number": 0, "metadata": {"shelf": "12"}, "created_at": NOON},
    )
)

# --- Reversals ----------------------------------------------------------------------------------

_undone: Final = {
    "journal_entries": [REVERSAL],
    "balances": [after(ANN, 3, 100_00), after(BOB, 2, 0)],
    "dry_run": False,
}
REVERSE_ENTRY: Final = Example(request={"reason": "Sent back"}, response=_undone)
CAN_REVERSE: Final = Example(
    response={
        "reversible": False,
        "code": "already_reversed",
        "detail": "This journal entry was reversed.",
        "details": {"reversal": REVERSAL},
    }
)
REVERSE_ENTRIES: Final = Example(
    request={"journal_entries": [TRANSFER], "at": "original", "reason": "Sent back"},
    response=_undone,
)

# --- FX -----------------------------------------------------------------------------------------

_quoted: Final = {
    "from_account": ANN,
    "to_account": DOLLARS,
    "amount": 10_00,
    "currency": "EUR",
    "bought_currency": "USD",
    "rate": "1.08456",
    "source": "ecb",
    "quoted_at": QUOTED,
    "reference": "trip-1",
    "description": "For the trip",
}
_exchange: Final = {
    "id": "fx_01kb1nd4m6p8r0t2v4x6z8a0ca",
    **_quoted,
    "bought_amount": 10_84,
    "remainder": "0.56",
    "sold_entry": SOLD,
    "bought_entry": BOUGHT,
    "effective_at": MORNING,
    "created_at": MORNING,
    "metadata": {},
}
EXCHANGE: Final = Example(
    request=_quoted,
    response={
        **_exchange,
        "balances": [
            after(ANN, 2, 90_00),
            after(DOLLARS, 1, 10_84),
            after(EUROS_OWNED, 1, 10_00),
            after(DOLLARS_OWNED, 1, -10_84),
        ],
        "dry_run": False,
    },
)
LIST_EXCHANGES: Final = Example(response=page_of(_exchange))
READ_EXCHANGE: Final = Example(response=_exchange | {"reversals": None})
REVERSE_EXCHANGE: Final = Example(
    request={"reason": "The trip is off"},
    response={
        "journal_entries": [REVERSAL, REVERSAL_OF_BOUGHT],
        "balances": [
            after(ANN, 3, 100_00),
            after(EUROS_OWNED, 2, 0),
            after(DOLLARS, 2, 0),
            after(DOLLARS_OWNED, 2, 0),
        ],
        "dry_run": False,
    },
)
