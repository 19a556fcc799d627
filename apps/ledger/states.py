"""The states of the ledger's own work, and the moves between them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


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
