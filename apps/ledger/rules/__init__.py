"""
The ledger's pure core: balances and commands in, outcomes and new balances out.

No database, clock or network. The operation locks, calls `apply`, and writes what it says.
Amounts are minor units; a debit is positive, a credit negative (ledger.md, section 1).
"""

from apps.ledger.rules.checks import is_reserved, lowest
from apps.ledger.rules.draft import touched
from apps.ledger.rules.engine import (
    apply,
    apply_together,
    forget_unmade,
)
from apps.ledger.rules.fx import (
    FX_KIND,
    QUOTE_SECONDS_MAX,
    RATE_DECIMALS_MAX,
    RATE_DIGITS_MAX,
    Quote,
    check_fresh,
    quote,
    rate_text,
)
from apps.ledger.rules.holds import keeps_reference
from apps.ledger.rules.later import LaterBalances
from apps.ledger.rules.legs import check_balanced
from apps.ledger.rules.monitors import (
    Crossing,
    MonitorState,
    crossings,
    is_beyond,
    measured,
)
from apps.ledger.rules.plain import PlainlyPosted, post_plainly
from apps.ledger.rules.posting import CLOCK_SKEW, CLOCK_STEP_MAX
from apps.ledger.rules.shares import (
    WHOLE_BASIS_POINTS,
    split_by_basis_points,
)
from apps.ledger.rules.undoing import UNDONE_POSTINGS_MAX, check_undone_at_once
from apps.ledger.rules.values import (
    COUNTER_MAX,
    CREDIT_NORMAL,
    RESERVED_REFERENCES,
    TRANSFER_KIND,
    AccountStatus,
    AccountType,
    BalanceAfter,
    BalanceState,
    BrokenFloor,
    CaptureHold,
    Command,
    ExpireHold,
    HoldState,
    HoldStatus,
    KnownEntry,
    Leg,
    MonitorDirection,
    MonitorMeasure,
    Outcome,
    PlaceHold,
    PostedLine,
    PostEntry,
    State,
    Transfer,
    VoidHold,
)

__all__ = [
    "CLOCK_SKEW",
    "CLOCK_STEP_MAX",
    "COUNTER_MAX",
    "CREDIT_NORMAL",
    "FX_KIND",
    "QUOTE_SECONDS_MAX",
    "RATE_DECIMALS_MAX",
    "RATE_DIGITS_MAX",
    "RESERVED_REFERENCES",
    "TRANSFER_KIND",
    "UNDONE_POSTINGS_MAX",
    "WHOLE_BASIS_POINTS",
    "AccountStatus",
    "AccountType",
    "BalanceAfter",
    "BalanceState",
    "BrokenFloor",
    "CaptureHold",
    "Command",
    "Crossing",
    "ExpireHold",
    "HoldState",
    "HoldStatus",
    "KnownEntry",
    "LaterBalances",
    "Leg",
    "MonitorDirection",
    "MonitorMeasure",
    "MonitorState",
    "Outcome",
    "PlaceHold",
    "PlainlyPosted",
    "PostEntry",
    "PostedLine",
    "Quote",
    "State",
    "Transfer",
    "VoidHold",
    "apply",
    "apply_together",
    "check_balanced",
    "check_fresh",
    "check_undone_at_once",
    "crossings",
    "forget_unmade",
    "is_beyond",
    "is_reserved",
    "keeps_reference",
    "lowest",
    "measured",
    "post_plainly",
    "quote",
    "rate_text",
    "split_by_basis_points",
    "touched",
]
