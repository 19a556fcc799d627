"""What a payout is, given its attempts; and what a freshly asked one may look like."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apps.payouts.states import AttemptState, PayoutState


@dataclass(frozen=True)
class AttemptPart:
    """One attempt as far as the payout's state is concerned; amount in minor units."""

    state: AttemptState
    amount_minor: int


def payout_state(*, amount_minor: int, attempts: Sequence[AttemptPart]) -> PayoutState:
    """
    Derive the payout's state from its attempts, oldest first; at least one.

    It is settled once what settled comes to just `amount_minor`, in minor units.

    Never ask it about a payout that is held, canceled, denied or declined: those were decided by
    somebody, not derived.
    """
    states = {attempt.state for attempt in attempts}
    for attempt_state, state in _OPEN:
        if attempt_state in states:
            return state
    settled = sum(a.amount_minor for a in attempts if a.state is AttemptState.SETTLED)
    if settled:
        return PayoutState.SETTLED if settled == amount_minor else PayoutState.PARTLY_SETTLED
    # A voided batch puts the payout back in the queue, whatever came of earlier attempts.
    if attempts[-1].state in {AttemptState.NOT_SENT, AttemptState.CREATED}:
        return PayoutState.SCHEDULED
    if AttemptState.RETURNED in states:
        return PayoutState.RETURNED
    return PayoutState.REJECTED


_OPEN = (
    (AttemptState.UNKNOWN, PayoutState.UNKNOWN),
    (AttemptState.SUBMITTED, PayoutState.SUBMITTED),
    (AttemptState.BATCHED, PayoutState.BATCHED),
)


def fold_reference(text: str) -> str:
    """Fold case and spaces, so that two spellings of one reference are the same."""
    return " ".join(text.casefold().split())


@dataclass(frozen=True)
class PriceLine:
    """What one payout costs by one rail, in minor units of its currency."""

    rail: str
    currency: str
    fee_minor: int


def fee(*, rail: str, currency: str, prices: Iterable[PriceLine]) -> int:
    """Return the fee in minor units; what nobody priced is free."""
    for price in prices:
        if (price.rail, price.currency) == (rail, currency):
            return price.fee_minor
    return 0
