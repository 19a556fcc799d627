"""The states of matches, breaks and opening balances, and the moves between them."""

from collections.abc import Mapping
from typing import Final

from django.db import models


class MatchState(models.TextChoices):
    LIVE = "live"
    UNDONE = "undone"


class TargetKind(models.TextChoices):
    PAYOUT_ATTEMPT = "payout_attempt"
    PAYOUT_RETURN = "payout_return"
    PAYMENT = "payment"


class Rule(models.TextChoices):
    """The default rules, in the order in which they are tried."""

    PAYOUT_RETURN = "payout_return"
    PAYOUT = "payout"
    PAYOUT_BATCH = "payout_batch"
    PAY_IN = "pay_in"


class BreakKind(models.TextChoices):
    BANK_ONLY = "bank_only"
    AMOUNT_DIFFERS = "amount_differs"
    CURRENCY_DIFFERS = "currency_differs"
    DUPLICATE_AT_BANK = "duplicate_at_bank"
    AMBIGUOUS = "ambiguous"
    REJECTED_BUT_BOOKED = "rejected_but_booked"
    RETURNED_AFTER_MATCH = "returned_after_match"
    FEE_KEPT = "fee_kept"
    STATEMENT_MISSING = "statement_missing"


class BreakState(models.TextChoices):
    OPEN = "open"
    INVESTIGATING = "investigating"
    RESOLVED = "resolved"


class Resolution(models.TextChoices):
    MATCHED = "matched"
    RETURNED_TO_SENDER = "returned_to_sender"
    CORRECTED = "corrected"
    WRITTEN_OFF = "written_off"
    EXPLAINED = "explained"


class OpeningState(models.TextChoices):
    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    DENIED = "denied"
    EXPIRED = "expired"


MATCH_MOVES: Final[Mapping[MatchState, frozenset[MatchState]]] = {
    MatchState.LIVE: frozenset({MatchState.UNDONE})
}
BREAK_MOVES: Final[Mapping[BreakState, frozenset[BreakState]]] = {
    BreakState.OPEN: frozenset({BreakState.INVESTIGATING, BreakState.RESOLVED}),
    BreakState.INVESTIGATING: frozenset({BreakState.OPEN, BreakState.RESOLVED}),
    BreakState.RESOLVED: frozenset({BreakState.OPEN}),
}
OPENING_MOVES: Final[Mapping[OpeningState, frozenset[OpeningState]]] = {
    OpeningState.PROPOSED: frozenset(
        {OpeningState.ACCEPTED, OpeningState.DENIED, OpeningState.EXPIRED}
    ),
    OpeningState.DENIED: frozenset({OpeningState.PROPOSED}),
    OpeningState.EXPIRED: frozenset({OpeningState.PROPOSED}),
}
