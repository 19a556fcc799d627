"""Events of the ledger."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypedDict

from apps.core.events import Event


class Posting(TypedDict):
    """One signed amount of an entry."""

    ledger_account: str
    "Which account was posted to."
    amount: int
    "In minor units of `currency`; a debit is positive."
    currency: str


@dataclass(frozen=True, kw_only=True)
class JournalEntryPosted(Event):
    """A journal entry was posted. Append-only, so its sequence is 1."""

    name: ClassVar[str] = "ledger.journal_entry.posted"
    aggregate_type: ClassVar[str] = "journal_entry"
    read_scope: ClassVar[str] = "ledger:read"
    example: ClassVar[dict[str, object]] = {
        "kind": "transfer",
        "reference": "order-4711",
        "effective_at": "2026-11-02T09:30:00Z",
        "postings": [
            {"ledger_account": "la_01kb1mzxe5f0q8w3v6y2n4r7ta", "amount": 25_00, "currency": "EUR"},
            {
                "ledger_account": "la_01kb1mzxe5f0q8w3v6y2n4r7tb",
                "amount": -25_00,
                "currency": "EUR",
            },
        ],
    }

    kind: str
    "What kind of entry it is, such as `transfer`."
    reference: str | None
    effective_at: datetime
    postings: list[Posting]
    "They add up to nothing in each currency."


@dataclass(frozen=True, kw_only=True)
class HoldPlaced(Event):
    """Money was reserved."""

    name: ClassVar[str] = "ledger.hold.placed"
    aggregate_type: ClassVar[str] = "hold"
    read_scope: ClassVar[str] = "ledger:read"
    example: ClassVar[dict[str, object]] = {
        "debit_account": "la_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "credit_account": "la_01kb1mzxe5f0q8w3v6y2n4r7tb",
        "amount": 40_00,
        "currency": "EUR",
        "reference": "order-4712",
        "expires_at": "2099-12-31T18:00:00Z",
        "multi_capture": False,
    }

    debit_account: str
    "What a capture debits; the amount is reserved on it if money leaves it by debit."
    credit_account: str
    "What a capture credits; the amount is reserved on it if money leaves it by credit."
    amount: int
    currency: str
    reference: str | None
    expires_at: datetime | None
    "When it ends by itself."
    multi_capture: bool
    "Whether it may be captured more than once."


@dataclass(frozen=True, kw_only=True)
class HoldCaptured(Event):
    """A hold was captured: `amount` was posted by this capture, `captured` by all of them."""

    name: ClassVar[str] = "ledger.hold.captured"
    aggregate_type: ClassVar[str] = "hold"
    read_scope: ClassVar[str] = "ledger:read"
    example: ClassVar[dict[str, object]] = {
        "amount": 35_00,
        "captured": 35_00,
        "released": 5_00,
        "currency": "EUR",
        "status": "captured",
        "journal_entry": "je_01kb1n2h8ze1s9c4m7k3p5w6xc",
    }

    amount: int
    "What this capture posted."
    captured: int
    "What all captures posted so far."
    released: int
    "What is available again, since the hold is over."
    currency: str
    status: str
    journal_entry: str | None
    "The entry that posted it."


@dataclass(frozen=True, kw_only=True)
class _HoldEnded(Event):
    aggregate_type: ClassVar[str] = "hold"
    read_scope: ClassVar[str] = "ledger:read"
    example: ClassVar[dict[str, object]] = {
        "released": 40_00,
        "currency": "EUR",
    }

    released: int
    "What is available again."
    currency: str


@dataclass(frozen=True, kw_only=True)
class HoldVoided(_HoldEnded):
    """A hold was given up, and what it still reserved is available again."""

    name: ClassVar[str] = "ledger.hold.voided"


@dataclass(frozen=True, kw_only=True)
class HoldExpired(_HoldEnded):
    """A hold's time was over, and what it still reserved is available again."""

    name: ClassVar[str] = "ledger.hold.expired"


@dataclass(frozen=True, kw_only=True)
class LedgerAccountChanged(Event):
    """A ledger account's floor, status or metadata changed."""

    name: ClassVar[str] = "ledger.ledger_account.changed"
    aggregate_type: ClassVar[str] = "ledger_account"
    read_scope: ClassVar[str] = "ledger:read"
    example: ClassVar[dict[str, object]] = {
        "status": "open",
        "min_available": -500_00,
    }

    status: str
    min_available: int | None
    "Its floor: it may not have less available. Null: none."


@dataclass(frozen=True, kw_only=True)
class LedgerAccountOpened(Event):
    """A ledger account was opened."""

    name: ClassVar[str] = "ledger.ledger_account.opened"
    aggregate_type: ClassVar[str] = "ledger_account"
    read_scope: ClassVar[str] = "ledger:read"
    example: ClassVar[dict[str, object]] = {
        "code": "wallets:ann:EUR",
        "type": "liability",
        "currency": "EUR",
    }

    code: str
    "What the client calls it."
    type: str
    "`asset`, `liability`, `equity`, `income` or `expense`."
    currency: str


@dataclass(frozen=True, kw_only=True)
class BalanceMonitorTriggered(Event):
    """A balance went beyond a monitor's threshold; it tells again once it was back."""

    name: ClassVar[str] = "ledger.balance_monitor.triggered"
    aggregate_type: ClassVar[str] = "balance_monitor"
    read_scope: ClassVar[str] = "ledger:read"
    example: ClassVar[dict[str, object]] = {
        "ledger_account": "la_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "measure": "available",
        "direction": "below",
        "threshold": 10_00,
        "balance": 9_50,
        "currency": "EUR",
    }

    ledger_account: str
    "Whose balance it watches."
    measure: str
    "`available` or `posted`."
    direction: str
    "`below` or `above`: on which side of the threshold the balance now is."
    threshold: int
    "In minor units of `currency`."
    balance: int
    "What the balance was as it crossed, in minor units on the account's normal side."
    currency: str


@dataclass(frozen=True, kw_only=True)
class FxTransferPosted(Event):
    """Money was changed from one currency to another, by two journal entries posted together."""

    name: ClassVar[str] = "ledger.fx_transfer.posted"
    aggregate_type: ClassVar[str] = "fx_transfer"
    read_scope: ClassVar[str] = "ledger:read"
    example: ClassVar[dict[str, object]] = {
        "from_account": "la_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "to_account": "la_01kb1mzxe5f0q8w3v6y2n4r7td",
        "amount": 100_00,
        "currency": "EUR",
        "bought_amount": 108_25,
        "bought_currency": "USD",
        "rate": "1.0825",
        "source": "ecb",
        "quoted_at": "2026-11-02T09:29:30Z",
        "reference": "treasury-7",
        "effective_at": "2026-11-02T09:30:00Z",
        "sold_entry": "je_01kb1n2h8ze1s9c4m7k3p5w6xe",
        "bought_entry": "je_01kb1n2h8ze1s9c4m7k3p5w6xf",
    }

    from_account: str
    "Whose money was sold."
    to_account: str
    "Who has what was bought."
    amount: int
    "What was sold."
    currency: str
    bought_amount: int
    "In minor units of `bought_currency`."
    bought_currency: str
    "ISO 4217."
    rate: str
    "Major units bought for one major unit sold, as a decimal."
    source: str
    "Who quoted the rate."
    quoted_at: datetime
    "When the rate was quoted."
    reference: str | None
    effective_at: datetime
    sold_entry: str
    "The journal entry that took the sold currency into liquidity."
    bought_entry: str
    "The journal entry that gave the bought currency out of it."


@dataclass(frozen=True, kw_only=True)
class _PeriodEvent(Event):
    aggregate_type: ClassVar[str] = "period"
    read_scope: ClassVar[str] = "ledger:read"
    example: ClassVar[dict[str, object]] = {
        "period": "2026-10",
        "starts_at": "2026-09-30T22:00:00Z",
        "ends_at": "2026-10-31T23:00:00Z",
        "closings": 0,
    }

    period: str
    """The month, as 2026-06."""
    starts_at: datetime
    "The month's first instant."
    ends_at: datetime
    """The next month's first instant."""
    closings: int
    """How often it was closed so far."""


@dataclass(frozen=True, kw_only=True)
class PeriodFrozen(_PeriodEvent):
    """A month is closing: from now on no entry is taken that is effective before its end."""

    name: ClassVar[str] = "ledger.period.frozen"


@dataclass(frozen=True, kw_only=True)
class PeriodClosed(_PeriodEvent):
    """A month is closed, and its trial balance is stored."""

    name: ClassVar[str] = "ledger.period.closed"
    example: ClassVar[dict[str, object]] = _PeriodEvent.example | {"closings": 1}


@dataclass(frozen=True, kw_only=True)
class PeriodReopened(_PeriodEvent):
    """A month takes entries again: its close was called off, or two people opened it again."""

    name: ClassVar[str] = "ledger.period.reopened"
    example: ClassVar[dict[str, object]] = _PeriodEvent.example | {"closings": 1}


@dataclass(frozen=True, kw_only=True)
class JournalEntryAnnotated(Event):
    """A journal entry was given other metadata; the entry itself stays as it was posted."""

    name: ClassVar[str] = "ledger.journal_entry.annotated"
    aggregate_type: ClassVar[str] = "journal_entry"
    read_scope: ClassVar[str] = "ledger:read"
    example: ClassVar[dict[str, object]] = {
        "number": 1,
        "keys": ["invoice", "shop"],
    }

    number: int
    "1, 2, 3 ... for each time the entry was given other metadata."
    keys: list[str]
    "The keys that its metadata has now."
