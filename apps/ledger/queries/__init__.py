"""Reads of the books, and the only place that locks them (`_locks`)."""

from apps.ledger.queries._balances import (
    BalanceView,
    OpenHold,
    TrialBalanceLine,
    account_ids,
    accounts,
    currency_totals,
    get_balance,
    list_balances,
    list_open_holds,
    trial_balance,
    trial_balance_totals,
    view_balances,
)
from apps.ledger.queries._export import export_accounts, stream_entries
from apps.ledger.queries._fx import (
    AccountSide,
    account_sides,
    find_fx_transfer,
    fx_transfers,
    get_fx_transfer,
)
from apps.ledger.queries._journal import (
    EntryView,
    PostingView,
    StatementLine,
    account_statement,
    entries,
    get_entry,
    view_entries,
)
from apps.ledger.queries._locks import (
    find_entries_by_reference,
    lock_balances,
    lock_holds,
    lock_monitors,
)
from apps.ledger.queries._monitors import get_monitor, monitors

__all__ = [
    "AccountSide",
    "BalanceView",
    "EntryView",
    "OpenHold",
    "PostingView",
    "StatementLine",
    "TrialBalanceLine",
    "account_ids",
    "account_sides",
    "account_statement",
    "accounts",
    "currency_totals",
    "entries",
    "export_accounts",
    "find_entries_by_reference",
    "find_fx_transfer",
    "fx_transfers",
    "get_balance",
    "get_entry",
    "get_fx_transfer",
    "get_monitor",
    "list_balances",
    "list_open_holds",
    "lock_balances",
    "lock_holds",
    "lock_monitors",
    "monitors",
    "stream_entries",
    "trial_balance",
    "trial_balance_totals",
    "view_balances",
    "view_entries",
]
