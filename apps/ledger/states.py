"""The states of the ledger's own work, and the moves between them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from apps.ledger.rules import HoldStatus


class PeriodState(StrEnum):
    """A month is open; closing from two people's word until nothing older can post; closed."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


PERIOD_MOVES: Final[Mapping[PeriodState, frozenset[PeriodState]]] = {
    PeriodState.OPEN: frozenset({PeriodState.CLOSING}),
    # Back to open where a close is called off, or a closed month is opened again.
    PeriodState.CLOSING: frozenset({PeriodState.CLOSED, PeriodState.OPEN}),
    PeriodState.CLOSED: frozenset({PeriodState.OPEN}),
}

HOLD_MOVES: Final[Mapping[HoldStatus, frozenset[HoldStatus]]] = {
    HoldStatus.OPEN: frozenset({HoldStatus.CAPTURED, HoldStatus.VOIDED, HoldStatus.EXPIRED}),
    # An end is one for ever: money is reserved anew by another hold.
    HoldStatus.CAPTURED: frozenset(),
    HoldStatus.VOIDED: frozenset(),
    HoldStatus.EXPIRED: frozenset(),
}
