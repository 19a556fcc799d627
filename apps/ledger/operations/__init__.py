"""Writes of the ledger: open accounts, post, reverse. See the package's modules, one per verb."""

from apps.ledger.operations._accounts import (
    AccountChange,
    AccountSpec,
    change_account,
    change_client_account,
    open_accounts,
    open_client_account,
)
from apps.ledger.operations._annotating import annotate_entry
from apps.ledger.operations._engine import (
    expire_holds,
    post,
)
from apps.ledger.operations._entries import EntryRequest, post_entry, preview_entry
from apps.ledger.operations._fx import (
    FxRequest,
    exchange,
)
from apps.ledger.operations._holds import (
    CaptureRequest,
    HoldRequest,
    HoldResult,
    capture_hold,
    place_hold,
    preview_capture,
    preview_hold,
    preview_void,
    void_hold,
)
from apps.ledger.operations._importing import (
    import_journal,
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
    preview_batch,
    preview_transfers,
)
from apps.ledger.operations._reversal import (
    ReversalResult,
    can_reverse,
    preview_reversal,
    reverse_entries,
    reverse_entry,
)
from apps.ledger.operations._sealing import (
    record_verification,
    seal_entries,
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
    "AccountChange",
    "AccountSpec",
    "BatchResult",
    "CaptureRequest",
    "EntryRequest",
    "FxRequest",
    "HoldRequest",
    "HoldResult",
    "MonitorTerms",
    "ReversalResult",
    "SeedPlan",
    "TransferRequest",
    "TransferResult",
    "analyze_seeded",
    "annotate_entry",
    "begin_closing",
    "call_off_closing",
    "can_reverse",
    "capture_hold",
    "change_account",
    "change_client_account",
    "create_monitor",
    "deactivate_monitor",
    "exchange",
    "expire_holds",
    "finish_closing",
    "import_journal",
    "open_accounts",
    "open_client_account",
    "place_hold",
    "plan_seeding",
    "post",
    "post_entry",
    "post_transfer",
    "post_transfers",
    "prepare_close",
    "prepare_reopen",
    "preview_batch",
    "preview_capture",
    "preview_entry",
    "preview_hold",
    "preview_reversal",
    "preview_transfers",
    "preview_void",
    "record_verification",
    "relay_opened",
    "reopen_period",
    "reverse_entries",
    "reverse_entry",
    "seal_entries",
    "seed_entries",
    "void_hold",
]
