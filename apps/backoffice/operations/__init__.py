"""Writes of the back office: figures and checks it keeps, and what it asks two people about."""

from apps.backoffice.operations.correction_acts import ACTS, register_correction_acts
from apps.backoffice.operations.corrections import (
    request_adjustment,
    request_reversal,
    withdraw_correction,
)
from apps.backoffice.operations.figures import (
    check_invariants,
    keep_whole_check,
    roll_up,
    roll_up_since,
)
from apps.backoffice.operations.freezes import (
    UNFREEZE_ACT,
    drop_unfreeze_request,
    register_freeze_act,
    request_unfreeze,
)
from apps.backoffice.operations.periods import (
    register_period_acts,
    request_period_close,
    request_period_reopen,
)
from apps.backoffice.operations.stuck_work import REQUEUE, requeue_work

__all__ = [
    "ACTS",
    "REQUEUE",
    "UNFREEZE_ACT",
    "check_invariants",
    "drop_unfreeze_request",
    "keep_whole_check",
    "register_correction_acts",
    "register_freeze_act",
    "register_period_acts",
    "request_adjustment",
    "request_period_close",
    "request_period_reopen",
    "request_reversal",
    "request_unfreeze",
    "requeue_work",
    "roll_up",
    "roll_up_since",
    "withdraw_correction",
]
