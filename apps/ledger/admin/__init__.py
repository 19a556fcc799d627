"""Staff screens of the ledger: read, never written. See the package's modules, one per subject."""

from apps.ledger.admin import _accounts, _chain, _hold_pages, _journal, _monitors, _periods

__all__ = ["_accounts", "_chain", "_hold_pages", "_journal", "_monitors", "_periods"]
