"""Writes of the ledger: open accounts, post, reverse, seal. A module of the package per verb."""

from apps.ledger.operations._accounts import (
    AccountSpec,
    open_accounts,
    open_client_account,
    set_account_status,
)
from apps.ledger.operations._engine import expire_holds, post
from apps.ledger.operations._posting import (
    BatchResult,
    TransferRequest,
    TransferResult,
    post_transfer,
    post_transfers,
    preview_transfers,
)
from apps.ledger.operations._reversal import reverse_entry
from apps.ledger.operations._sealing import seal_entries, seal_in_order

__all__ = [
    "AccountSpec",
    "BatchResult",
    "TransferRequest",
    "TransferResult",
    "expire_holds",
    "open_accounts",
    "open_client_account",
    "post",
    "post_transfer",
    "post_transfers",
    "preview_transfers",
    "reverse_entry",
    "seal_entries",
    "seal_in_order",
    "set_account_status",
]
