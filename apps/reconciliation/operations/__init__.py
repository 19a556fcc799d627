"""Writes of reconciliation: matching lines, breaks, and opening balances."""

from apps.reconciliation.operations._matching import (
    Progress,
    match_bank_lines,
    match_chunk,
)
from apps.reconciliation.operations._openings import (
    OPENING_ACT,
    note_statements,
    opening_act,
    request_opening,
)

__all__ = [
    "OPENING_ACT",
    "Progress",
    "match_bank_lines",
    "match_chunk",
    "note_statements",
    "opening_act",
    "request_opening",
]
