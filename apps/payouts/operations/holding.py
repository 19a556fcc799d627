"""Stopping a payout, letting a held one go on, and what one costs."""

from datetime import datetime
from uuid import UUID

from apps.accounts import queries as accounts
from apps.accounts.states import CustomerState
from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.payouts import errors, queries
from apps.payouts.models import Payout, PayoutPrice
from apps.payouts.operations._ending import end_all
from apps.payouts.operations._progress import go_on
from apps.payouts.states import CANCELABLE, COOLDOWN, PAUSED, PayoutState


@transactions.outermost
def cancel_payout(
    *,
    organization_id: UUID,
    payout_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> Payout:
    """
    Cancel a payout that is not yet on its way to the bank, and release its money.

    Replaying the key returns the payout as it is now.

    :raises PayoutNotFound: if the organization has no such payout
    :raises PayoutNotCancelable: if it was frozen into a batch, or is closed
    :raises CapabilityMissing: if the actor is staff without `payouts.cancel_payout`
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "cancel_payout",
        payout_id,
        reason,
        prefix="po",
        acts_on=payout_id,
    )
    accounts.require_capability(
        actor=actor, capability="payouts.cancel_payout", organization_id=organization_id
    )
    # The row lock serializes this with the batch freeze: nothing is decided before it is held.
    payout = queries.get_payout_for_update(organization_id=organization_id, payout_id=payout_id)
    if claim.replayed:
        return payout
    if payout.state not in CANCELABLE:
        raise errors.PayoutNotCancelable(
            "This payout can no longer be canceled.", state=payout.state
        )
    audit.record("payouts.cancel_payout", payout, actor=actor, reason=reason)
    end_all([payout], PayoutState.CANCELED, actor=actor, now=now, reason=reason)
    return payout


@transactions.outermost
def release_payout(
    *,
    organization_id: UUID,
    payout_id: UUID,
    hold_reason: str,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> Payout:
    """
    Take one reason off a held payout; with the last one gone it goes on to approvals.

    A cooldown is not taken off by anybody: the clock does it. Replaying the key returns the payout
    as it is now.

    :raises PayoutNotFound: if the organization has no such payout
    :raises PayoutNotHeld: if it is not held, or not for this reason, or it is the cooldown
    :raises AccountFrozen: if it is `payouts_paused`, and the customer is frozen or closed still
    :raises CapabilityMissing: if the actor is staff without `payouts.release_risk_hold`
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "release_payout",
        payout_id,
        hold_reason,
        reason,
        prefix="po",
        acts_on=payout_id,
    )
    accounts.require_capability(
        actor=actor, capability="payouts.release_risk_hold", organization_id=organization_id
    )
    # The lock serializes release and cancel of one held payout: one wins.
    payout = queries.get_payout_for_update(organization_id=organization_id, payout_id=payout_id)
    if claim.replayed:
        return payout
    if hold_reason == COOLDOWN or hold_reason not in payout.hold_reasons:
        raise errors.PayoutNotHeld(
            "This payout is not held for this reason.",
            state=payout.state,
            hold_reasons=list(payout.hold_reasons),
        )
    if hold_reason == PAUSED:
        _refuse_frozen(payout)
    audit.record(
        "payouts.release_payout",
        payout,
        actor=actor,
        reason=reason,
        before={"hold_reasons": list(payout.hold_reasons)},
    )
    _take_off(payout, hold_reason, actor=actor, now=now)
    return payout


def _refuse_frozen(payout: Payout) -> None:
    # Without the customer's lock: who is frozen after this is as if frozen after the release, and
    # the next batch holds the payout anew.
    customer = accounts.get_customer(
        organization_id=payout.organization_id, customer_id=payout.customer_id
    )
    if customer.state != CustomerState.OPEN:
        raise errors.AccountFrozen(
            f"The customer is {customer.state}: the next batch would hold this payout again.",
            state=customer.state,
        )


@transactions.outermost
def end_cooldown(*, organization_id: UUID, payout_id: UUID, now: datetime) -> bool:
    """Let a payout go on whose cooldown is over; False if it is not, or something moved it."""
    # The job found it without a lock; what is true now decides.
    payout = queries.get_payout_for_update(organization_id=organization_id, payout_id=payout_id)
    over = payout.available_at is not None and payout.available_at <= now
    if COOLDOWN not in payout.hold_reasons or not over:
        return False
    payout.available_at = None
    _take_off(payout, COOLDOWN, actor=Actor.job("payouts.cooldown"), now=now)
    return True


def _take_off(payout: Payout, hold_reason: str, *, actor: Actor, now: datetime) -> None:
    left = [reason for reason in payout.hold_reasons if reason != hold_reason]
    if not left:
        go_on(payout, actor=actor, now=now)
        return
    payout.hold_reasons = left
    payout.save(update_fields=["hold_reasons", "available_at"])


@transactions.outermost
def set_price(
    *,
    organization_id: UUID,
    rail: str,
    currency: str,
    fee_minor: int,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> PayoutPrice:
    """
    Set what one payout costs from now on, in minor units; payouts already asked for keep theirs.

    Replaying the key returns the price that was set.

    :raises CapabilityMissing: if the actor is staff without `settlements.change_price_plan`
    """
    claim = idempotency.claim(
        organization_id, idempotency_key, "set_price", rail, currency, fee_minor
    )
    accounts.require_capability(
        actor=actor,
        capability="settlements.change_price_plan",
        organization_id=organization_id,
        deciding=True,
    )
    if claim.replayed:
        return PayoutPrice.objects.get(organization_id=organization_id, id=claim.resource_id)
    price = PayoutPrice.objects.create(
        id=claim.resource_id,
        organization_id=organization_id,
        rail=rail,
        currency=currency,
        fee_minor=fee_minor,
        valid_from=now,
        set_by=str(actor),
    )
    audit.record(
        "payouts.set_price",
        price,
        actor=actor,
        after={"rail": rail, "currency": currency, "fee": fee_minor},
    )
    return price
