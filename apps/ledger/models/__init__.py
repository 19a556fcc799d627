"""The books. Private to the ledger: everybody else calls its operations and queries."""

from apps.ledger.models.accounts import Balance, LedgerAccount
from apps.ledger.models.chain import ChainHead, ChainLink
from apps.ledger.models.fx import FxTransfer
from apps.ledger.models.holds import Hold, HoldEvent
from apps.ledger.models.journal import EntryMetadata, JournalEntry, Posting, TransferBatch
from apps.ledger.models.monitors import BalanceMonitor
from apps.ledger.models.periods import MonthlyTotal, Period, PeriodBalance, TypeTotal

__all__ = [
    "Balance",
    "BalanceMonitor",
    "ChainHead",
    "ChainLink",
    "EntryMetadata",
    "FxTransfer",
    "Hold",
    "HoldEvent",
    "JournalEntry",
    "LedgerAccount",
    "MonthlyTotal",
    "Period",
    "PeriodBalance",
    "Posting",
    "TransferBatch",
    "TypeTotal",
]
