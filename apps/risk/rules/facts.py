"""The states of a fact, and which of two is later: facts only ever rise."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class FactState(StrEnum):
    OPEN = "open"
    DONE = "done"
    RETURNED = "returned"
    CANCELED = "canceled"
    REFUSED = "refused"


FACT_MOVES: Final[Mapping[FactState, frozenset[FactState]]] = {
    FactState.OPEN: frozenset({FactState.DONE, FactState.CANCELED, FactState.RETURNED}),
    FactState.DONE: frozenset({FactState.RETURNED}),
    FactState.RETURNED: frozenset(),
    FactState.CANCELED: frozenset(),
    FactState.REFUSED: frozenset(),
}

# What uses up a limit: money that is leaving, has left, or came back (less what came back).
COUNTED: Final = (FactState.OPEN, FactState.DONE, FactState.RETURNED)


class Outcome(StrEnum):
    """What risk says, mildest first."""

    APPROVE = "approve"
    REVIEW = "review"
    BLOCK_AND_REVIEW = "block_and_review"
    DECLINE = "decline"
