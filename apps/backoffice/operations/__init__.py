"""Writes of the back office: figures and checks it keeps, and what it asks two people about."""

from apps.backoffice.operations.figures import check_invariants, roll_up, roll_up_since
from apps.backoffice.operations.periods import (
    register_period_acts,
    request_period_close,
    request_period_reopen,
)

__all__ = [
    "check_invariants",
    "register_period_acts",
    "request_period_close",
    "request_period_reopen",
    "roll_up",
    "roll_up_since",
]
