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
from apps.ledger.operations._by_hand import (
    ADJUSTMENT,
    adjust,
    prepare_adjustment,
    prepare_reversal,
    preview_adjustment,
    preview_reversal_by_hand,
    reverse_by_hand,
    why_not_reversed,
    why_out_of_reach,
)
from apps.ledger.operations._engine import (
    expire_holds,
    post,
)
from apps.ledger.operations._entries import (
    EntryRequest,
    EntryResult,
    post_entry,
    preview_entry,
)
from apps.ledger.operations._fx import (
    FxPreview,
    FxRequest,
    FxResult,
    exchange,
    preview_exchange,
)
from apps.ledger.operations._holds import (
    CaptureRequest,
    HoldPreview,
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
    TransferRequest,
    TransferResult,
    ask_transfer,
    post_asked,
    post_transfer,
    post_transfers,
    preview_batch,
    preview_transfers,
    take_result,
)
from apps.ledger.operations._reversal import (
    can_reverse,
    preview_fx_reversal,
    preview_reversal,
    reverse_entries,
    reverse_entry,
    reverse_fx_transfer,
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
from apps.ledger.operations._statement_export import (
    StatementExport,
    StatementTerms,
    begin_statement_export,
    write_statement_export,
)
from apps.ledger.operations._tickets import Ticket
from apps.ledger.operations._trial_balance_export import (
    TrialBalanceExport,
    TrialBalanceTerms,
    begin_trial_balance_export,
    write_trial_balance_export,
)
from apps.ledger.operations._undoing import (
    ReversalResult,
    ReversalTime,
)

__all__ = [
    "ADJUSTMENT",
    "SEED_ACTOR",
    "AccountChange",
    "AccountSpec",
    "CaptureRequest",
    "EntryRequest",
    "EntryResult",
    "FxPreview",
    "FxRequest",
    "FxResult",
    "HoldPreview",
    "HoldRequest",
    "HoldResult",
    "MonitorTerms",
    "ReversalResult",
    "ReversalTime",
    "SeedPlan",
    "StatementExport",
    "StatementTerms",
    "Ticket",
    "TransferRequest",
    "TransferResult",
    "TrialBalanceExport",
    "TrialBalanceTerms",
    "adjust",
    "analyze_seeded",
    "annotate_entry",
    "ask_transfer",
    "begin_closing",
    "begin_statement_export",
    "begin_trial_balance_export",
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
    "post_asked",
    "post_entry",
    "post_transfer",
    "post_transfers",
    "prepare_adjustment",
    "prepare_close",
    "prepare_reopen",
    "prepare_reversal",
    "preview_adjustment",
    "preview_batch",
    "preview_capture",
    "preview_entry",
    "preview_exchange",
    "preview_fx_reversal",
    "preview_hold",
    "preview_reversal",
    "preview_reversal_by_hand",
    "preview_transfers",
    "preview_void",
    "record_verification",
    "relay_opened",
    "reopen_period",
    "reverse_by_hand",
    "reverse_entries",
    "reverse_entry",
    "reverse_fx_transfer",
    "seal_entries",
    "seed_entries",
    "take_result",
    "void_hold",
    "why_not_reversed",
    "why_out_of_reach",
    "write_statement_export",
    "write_trial_balance_export",
]
