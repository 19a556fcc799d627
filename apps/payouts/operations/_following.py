"""After an attempt changed: what the payout is now, its fact in risk, its batch's end."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from apps.core.actors import Actor
from apps.payouts import queries, rules
from apps.payouts.models import Payout, PayoutAttempt, PayoutBatch
from apps.payouts.operations._ending import SUBJECT
from apps.payouts.operations._moves import move_batch, move_payouts
from apps.payouts.rules import AttemptPart
from apps.payouts.states import FINAL, AttemptState, BatchState, PayoutState
from apps.risk import operations as risk
from apps.risk.rules import FactState

_FACT_OF: Mapping[PayoutState, FactState] = {
    PayoutState.SETTLED: FactState.DONE,
    PayoutState.REJECTED: FactState.CANCELED,
    PayoutState.RETURNED: FactState.RETURNED,
}


def follow(
    payouts: Sequence[Payout],
    *,
    actor: Actor,
    now: datetime,
    reason: str = "",
    values: Mapping[UUID, Mapping[str, object]] | None = None,
) -> None:
    """
    Move locked payouts of one organization to what their attempts, as stored, make of them.

    `values` are set on a payout together with its move. Held and ended payouts stay what somebody
    made them.
    """
    if not payouts:
        return
    attempts = queries.attempts_of(
        organization_id=payouts[0].organization_id, payout_ids=[payout.id for payout in payouts]
    )
    by_move: dict[tuple[PayoutState, tuple[tuple[str, object], ...]], list[Payout]] = {}
    for payout in payouts:
        state = _derived(payout, attempts.get(payout.id, []))
        if state is not None:
            own = tuple(sorted((values or {}).get(payout.id, {}).items()))
            by_move.setdefault((state, own), []).append(payout)
    for (state, own), movers in by_move.items():
        move_payouts(movers, state, actor=actor, now=now, reason=reason, values=dict(own))
        _tell_risk(movers, state)


def _derived(payout: Payout, attempts: Sequence[PayoutAttempt]) -> PayoutState | None:
    """Return the state the payout has to move to, or None if it is there or decided otherwise."""
    if payout.state in FINAL or payout.state == PayoutState.HELD or not attempts:
        return None
    state = rules.payout_state(
        amount_minor=payout.amount_minor,
        attempts=[AttemptPart(AttemptState(one.state), one.amount_minor) for one in attempts],
    )
    return None if state == payout.state else state


def _tell_risk(payouts: Sequence[Payout], state: PayoutState) -> None:
    fact = _FACT_OF.get(state)
    if fact is not None:
        risk.record_fact_states(
            organization_id=payouts[0].organization_id,
            subject_type=SUBJECT,
            returned={payout.id: payout.returned_minor for payout in payouts},
            state=fact,
        )


def close_batch(batch: PayoutBatch, *, actor: Actor, now: datetime) -> None:
    """Reconcile a locked batch of which the bank has nothing left to say."""
    if queries.has_open_attempts(organization_id=batch.organization_id, batch_id=batch.id):
        return
    if batch.state in {BatchState.REJECTED, BatchState.RECONCILED, BatchState.VOIDED}:
        return
    if batch.state not in {BatchState.ACCEPTED, BatchState.PARTLY_ACCEPTED}:
        states = {
            attempt.state
            for attempt in queries.list_batch_attempts(
                organization_id=batch.organization_id, batch_id=batch.id
            )
        }
        if states == {AttemptState.REJECTED}:
            move_batch(batch, BatchState.REJECTED, actor=actor, now=now)
            return
        partly = AttemptState.REJECTED in states
        accepted = BatchState.PARTLY_ACCEPTED if partly else BatchState.ACCEPTED
        move_batch(batch, accepted, actor=actor, now=now)
    move_batch(batch, BatchState.RECONCILED, actor=actor, now=now)
