"""The states of payouts, attempts, batches and destinations, and every move between them."""

from collections.abc import Mapping
from typing import Final

from django.db import models

# Of the columns that hold one.
STATE_LENGTH: Final = 24
# Of what holds a payout, the one that the clock alone takes off.
COOLDOWN: Final = "destination_cooldown"
# And the one that a batch puts on while the customer is frozen or closed.
PAUSED: Final = "payouts_paused"


class PayoutState(models.TextChoices):
    REQUESTED = "requested"
    HELD = "held"
    PENDING_APPROVAL = "pending_approval"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    BATCHED = "batched"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    SETTLED = "settled"
    PARTLY_SETTLED = "partly_settled"
    REJECTED = "rejected"
    RETURNED = "returned"
    DECLINED = "declined"
    DENIED = "denied"
    CANCELED = "canceled"


_P = PayoutState
PAYOUT_MOVES: Final[Mapping[PayoutState, frozenset[PayoutState]]] = {
    _P.REQUESTED: frozenset({_P.HELD, _P.PENDING_APPROVAL, _P.APPROVED, _P.DECLINED, _P.CANCELED}),
    _P.HELD: frozenset({_P.PENDING_APPROVAL, _P.APPROVED, _P.DECLINED, _P.CANCELED}),
    _P.PENDING_APPROVAL: frozenset({_P.APPROVED, _P.DENIED, _P.HELD, _P.CANCELED}),
    _P.APPROVED: frozenset({_P.SCHEDULED, _P.HELD, _P.CANCELED}),
    _P.SCHEDULED: frozenset({_P.BATCHED, _P.HELD, _P.CANCELED}),
    _P.BATCHED: frozenset({_P.SUBMITTED, _P.UNKNOWN, _P.SCHEDULED}),
    _P.SUBMITTED: frozenset(
        {_P.SETTLED, _P.PARTLY_SETTLED, _P.REJECTED, _P.RETURNED, _P.HELD, _P.UNKNOWN}
    ),
    _P.UNKNOWN: frozenset(
        {_P.SUBMITTED, _P.SETTLED, _P.REJECTED, _P.HELD, _P.RETURNED, _P.SCHEDULED}
    ),
    _P.SETTLED: frozenset({_P.RETURNED, _P.PARTLY_SETTLED, _P.SUBMITTED}),
    _P.PARTLY_SETTLED: frozenset({_P.REQUESTED, _P.SETTLED, _P.RETURNED}),
    _P.REJECTED: frozenset({_P.REQUESTED}),
    _P.RETURNED: frozenset({_P.REQUESTED}),
    _P.DECLINED: frozenset(),
    _P.DENIED: frozenset(),
    _P.CANCELED: frozenset(),
}

# Nothing ever happens to these again.
FINAL: Final = frozenset({_P.DECLINED, _P.DENIED, _P.CANCELED})
# Nothing happens to these by itself: closed, unless the bank or a retry says otherwise.
CLOSED: Final = FINAL | {_P.SETTLED, _P.REJECTED, _P.RETURNED}
# The reservation still stands, whole, in the books.
BEFORE_FILE: Final = frozenset(
    {_P.REQUESTED, _P.HELD, _P.PENDING_APPROVAL, _P.APPROVED, _P.SCHEDULED}
)
# What a customer, a member of staff or the clock may still stop.
CANCELABLE: Final = frozenset(
    state for state, moves in PAYOUT_MOVES.items() if PayoutState.CANCELED in moves
)


class AttemptState(models.TextChoices):
    CREATED = "created"
    BATCHED = "batched"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    SETTLED = "settled"
    REJECTED = "rejected"
    RETURNED = "returned"
    NOT_SENT = "not_sent"


_A = AttemptState
ATTEMPT_MOVES: Final[Mapping[AttemptState, frozenset[AttemptState]]] = {
    _A.CREATED: frozenset({_A.BATCHED, _A.NOT_SENT}),
    _A.BATCHED: frozenset({_A.SUBMITTED, _A.UNKNOWN, _A.NOT_SENT}),
    _A.SUBMITTED: frozenset({_A.SETTLED, _A.REJECTED, _A.UNKNOWN}),
    _A.UNKNOWN: frozenset({_A.SUBMITTED, _A.SETTLED, _A.REJECTED, _A.NOT_SENT}),
    _A.SETTLED: frozenset({_A.RETURNED, _A.SUBMITTED}),
    _A.REJECTED: frozenset(),
    _A.RETURNED: frozenset(),
    _A.NOT_SENT: frozenset(),
}


class BatchState(models.TextChoices):
    FROZEN = "frozen"
    RELEASED = "released"
    EXPORTED = "exported"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    ACKNOWLEDGED = "acknowledged"
    ACCEPTED = "accepted"
    PARTLY_ACCEPTED = "partly_accepted"
    REJECTED = "rejected"
    RECONCILED = "reconciled"
    VOIDED = "voided"


_B = BatchState
_ANSWERS = frozenset({_B.ACKNOWLEDGED, _B.ACCEPTED, _B.PARTLY_ACCEPTED, _B.REJECTED})
BATCH_MOVES: Final[Mapping[BatchState, frozenset[BatchState]]] = {
    _B.FROZEN: frozenset({_B.RELEASED, _B.VOIDED}),
    _B.RELEASED: frozenset({_B.EXPORTED, _B.VOIDED}),
    _B.EXPORTED: frozenset({_B.SUBMITTED, _B.UNKNOWN, _B.VOIDED}),
    _B.SUBMITTED: _ANSWERS | {_B.UNKNOWN},
    _B.UNKNOWN: _ANSWERS | {_B.SUBMITTED, _B.VOIDED},
    _B.ACKNOWLEDGED: _ANSWERS - {_B.ACKNOWLEDGED},
    _B.ACCEPTED: frozenset({_B.RECONCILED}),
    _B.PARTLY_ACCEPTED: frozenset({_B.RECONCILED}),
    _B.REJECTED: frozenset(),
    _B.RECONCILED: frozenset(),
    _B.VOIDED: frozenset(),
}


class DestinationState(models.TextChoices):
    UNVERIFIED = "unverified"
    PENDING_VERIFICATION = "pending_verification"
    VERIFIED = "verified"
    SUSPENDED = "suspended"
    DISABLED = "disabled"


_D = DestinationState
DESTINATION_MOVES: Final[Mapping[DestinationState, frozenset[DestinationState]]] = {
    _D.UNVERIFIED: frozenset({_D.PENDING_VERIFICATION, _D.VERIFIED, _D.SUSPENDED, _D.DISABLED}),
    _D.PENDING_VERIFICATION: frozenset({_D.VERIFIED, _D.SUSPENDED, _D.DISABLED}),
    _D.VERIFIED: frozenset({_D.SUSPENDED, _D.DISABLED}),
    _D.SUSPENDED: frozenset({_D.VERIFIED, _D.DISABLED}),
    _D.DISABLED: frozenset(),
}


class BankFactState(models.TextChoices):
    """What became of an answer of the bank."""

    APPLIED = "applied"
    SUPERSEDED = "superseded"
    PARKED = "parked"
    UNMATCHED = "unmatched"


_F = BankFactState
BANK_FACT_MOVES: Final[Mapping[BankFactState, frozenset[BankFactState]]] = {
    _F.PARKED: frozenset({_F.APPLIED, _F.SUPERSEDED, _F.UNMATCHED}),
    _F.UNMATCHED: frozenset({_F.APPLIED, _F.SUPERSEDED, _F.PARKED}),
    _F.APPLIED: frozenset(),
    _F.SUPERSEDED: frozenset(),
}
