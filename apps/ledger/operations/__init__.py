"""Writes of the ledger: open accounts, post, reverse. See the package's modules, one per verb."""

from apps.ledger.operations._accounts import (
    AccountSpec,
    open_accounts,
    open_client_account,
    set_account_status,
)
from apps.ledger.operations._engine import (
    expire_holds,
    post,
)
from apps.ledger.operations._fx import (
    FxRequest,
    exchange,
)
from apps.ledger.operations._monitors import (
    MonitorTerms,
    create_monitor,
    deactivate_monitor,
)
from apps.ledger.operations._periods import (
    begin_closing,
    call_off_closing,
    finish_closing,
    prepare_close,
    prepare_reopen,
    reopen_period,
)
from apps.ledger.operations._posting import (
    BatchResult,
    TransferRequest,
    TransferResult,
    post_transfer,
    post_transfers,
    preview_transfers,
)
from apps.ledger.operations._reversal import (
    reverse_entry,
)
from apps.ledger.operations._sealing import (
    seal_entries,
    seal_in_order,
)
from apps.ledger.operations._seeding import (
    SEED_ACTOR,
    SeedPlan,
    analyze_seeded,
    plan_seeding,
    relay_opened,
    seed_entries,
)

__all__ = [
    "SEED_ACTOR",
    "AccountSpec",
    "BatchResult",
    "FxRequest",
    "MonitorTerms",
    "SeedPlan",
    "TransferRequest",
    "TransferResult",
    "analyze_seeded",
    "begin_closing",
    "call_off_closing",
    "create_monitor",
    "deactivate_monitor",
    "exchange",
    "expire_holds",
    "finish_closing",
    "open_accounts",
    "open_client_account",
    "plan_seeding",
    "post",
    "post_transfer",
    "post_transfers",
    "prepare_close",
    "prepare_reopen",
    "preview_transfers",
    "relay_opened",
    "reopen_period",
    "reverse_entry",
    "seal_entries",
    "seal_in_order",
    "seed_entries",
    "set_account_status",
]
