"""The books through time: balances, the trial balance, the balance sheet, and months."""

from typing import Final

from apps.core.api.views import Example, page_of
from apps.ledger.api.examples._story import (
    ANN,
    BOB,
    NOON,
)

BALANCES: Final = Example(
    response={
        "at": NOON,
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
                (ANN, "wallets:ann:EUR", 60_00),
                (BOB, "wallets:bob:EUR", 39_00),
            )
        ],
        "totals": [{"type": "liability", "currency": "EUR", "posted": 99_00}],
        "has_more": False,
        "next": None,
        "previous": None,
    }
)
_moved: Final = {"opening": -100_00, "debits": 40_00, "credits": 39_00, "closing": -99_00}
TRIAL_BALANCE: Final = Example(
    response={
        "period": "2026-11",
        "state": "open",
        "at": None,
        "clock": "effective",
        "data": [
            {
                "ledger_account": ANN,
                "code": "wallets:ann:EUR",
                "type": "liability",
                "currency": "EUR",
                "opening": -100_00,
                "debits": 40_00,
                "credits": 0,
                "closing": -60_00,
            },
            {
                "ledger_account": BOB,
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
        "previous": None,
    }
)
BALANCE_SHEET: Final = Example(
    response={
        "at": NOON,
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
LIST_PERIODS: Final = Example(response=page_of(_month))
READ_PERIOD: Final = Example(
    response={
        **_month,
        "blockers": [
            {"code": "period_out_of_order", "detail": "September 2026 comes first: it is open."}
        ],
        "approval": None,
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
