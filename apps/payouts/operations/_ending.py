"""Payouts that will not happen: their money, their place under limits and their approvals go."""

from collections.abc import Sequence
from datetime import datetime

from apps.approvals import operations as approvals
from apps.core.actors import Actor
from apps.payouts.models import Payout
from apps.payouts.operations._moves import move_payouts, release_holds
from apps.payouts.states import PayoutState
from apps.risk import operations as risk
from apps.risk.rules import FactState

SEND_ACT = "payouts.send"
SUBJECT = "payout"


def cancel_all(payouts: Sequence[Payout], *, code: str, actor: Actor, now: datetime) -> None:
    """Cancel locked payouts of one organization, none of them in a file; `code` says why."""
    end_all(payouts, PayoutState.CANCELED, code=code, actor=actor, now=now)


def end_all(
    payouts: Sequence[Payout],
    state: PayoutState,
    *,
    actor: Actor,
    now: datetime,
    code: str = "",
    reason: str = "",
) -> None:
    """
    End locked payouts in a final state and give amount and fee back.

    `code` is shown to the client as the failure; `reason` is what a person said, for the history.
    """
    if not payouts:
        return
    organization_id = payouts[0].organization_id
    waiting = [one for one in payouts if one.state == PayoutState.PENDING_APPROVAL]
    risk.record_fact_states(
        organization_id=organization_id,
        subject_type=SUBJECT,
        returned=dict.fromkeys((one.id for one in payouts), 0),
        state=FactState.CANCELED,
    )
    for payout in waiting:
        approvals.withdraw_approval(
            organization_id=organization_id,
            act=SEND_ACT,
            subject_id=payout.id,
            actor=actor,
            now=now,
        )
    move_payouts(
        payouts,
        state,
        actor=actor,
        now=now,
        reason=reason or code,
        values={"failure_code": code},
    )
    release_holds(payouts, actor=actor, now=now)
