"""A client's own holds: placed, captured in whole or part, given up; and those that expired."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.core import idempotency, transactions
from apps.core.actors import Actor
from apps.core.errors import InvalidInput
from apps.core.ids import new_id
from apps.ledger import queries, rules
from apps.ledger.operations import _engine
from apps.ledger.operations._origin import Origin
from apps.ledger.rules import (
    BalanceAfter,
    CaptureHold,
    Command,
    HoldState,
    Outcome,
    PlaceHold,
    State,
    VoidHold,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRequest:
    """A hold as a client asks for it: `amount_minor` > 0 of the debited account is reserved."""

    debit_account_id: UUID
    credit_account_id: UUID
    amount_minor: int
    currency: str
    reference: str | None = None
    expires_at: datetime | None = None
    multi_capture: bool = False
    metadata: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """What of a hold is posted: all that is left without an amount, nothing with 0."""

    amount_minor: int | None = None
    description: str = ""
    effective_at: datetime | None = None
    metadata: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class HoldResult:
    """The hold, the entry that this act posted, and the balances right after; in a replay, now."""

    hold_id: UUID
    entry_id: UUID | None = None
    balances: tuple[BalanceAfter, ...] = ()


@dataclass(frozen=True, slots=True)
class HoldPreview:
    """The hold as an act would leave it, and the balances; an id where there is one by now."""

    hold_id: UUID | None
    hold: HoldState
    balances: tuple[BalanceAfter, ...]


@transactions.outermost
def place_hold(
    *,
    organization_id: UUID,
    hold: HoldRequest,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> HoldResult:
    """
    Reserve money of a client's account.

    Replaying the key, or asking again under the reference of a hold, answers that one as it is now,
    whatever became of it.

    :raises InvalidInput: if it would be over before it begins; a replay may come later than that
    :raises InsufficientFunds: if the floor would be broken
    :raises LedgerAccountReserved: if an account is posted to by Kassa's own acts only
    :raises ReferenceReserved: if the reference begins as those of Kassa's own acts do
    :raises ReferenceReused: if a hold of other terms has the reference, or had it
    """
    parts = [
        hold.debit_account_id, hold.credit_account_id, hold.amount_minor, hold.currency,
        hold.reference, hold.expires_at, hold.multi_capture, hold.metadata or {},
    ]  # fmt: skip
    claim = idempotency.claim(organization_id, idempotency_key, "place_hold", parts, prefix="ho")
    if claim.replayed:
        return _replayed(organization_id, claim.resource_id)
    _refuse_late(organization_id, hold, now)
    outcome = _run(organization_id, _placed(claim.resource_id, hold), actor=actor, now=now)
    stands = outcome.hold.id if outcome.hold is not None else claim.resource_id
    if stands != claim.resource_id:
        # Its reference stood for a hold already: from now on the key stands for that one too.
        idempotency.answer_with(organization_id, idempotency_key, stands)
        return _replayed(organization_id, stands)
    return HoldResult(stands, None, outcome.balances)


@transactions.outermost
def capture_hold(
    *,
    organization_id: UUID,
    hold_id: UUID,
    capture: CaptureRequest,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> HoldResult:
    """
    Post what a hold reserved, in whole or in part; the rest is free unless it is `multi_capture`.

    Replaying the key answers the hold as it is now.

    :raises HoldNotFound: if the organisation has no such hold
    :raises HoldAlreadyCaptured, HoldAlreadyVoided, HoldExpired: if it has ended
    :raises CaptureExceedsHold: if more is asked than it still reserves
    """
    parts = [
        hold_id, capture.amount_minor, capture.description, capture.effective_at,
        capture.metadata or {},
    ]  # fmt: skip
    claim = idempotency.claim(organization_id, idempotency_key, "capture_hold", parts, prefix="je")
    if claim.replayed:
        posted = queries.hold_entries(organization_id=organization_id, hold_id=hold_id)
        # A capture of 0 posted nothing, and its key stands for the hold.
        return _replayed(
            organization_id, hold_id, claim.resource_id if claim.resource_id in posted else None
        )
    command = _captured(claim.resource_id, hold_id, capture)
    outcome = _run(organization_id, command, actor=actor, now=now)
    if outcome.entry_id is None:
        idempotency.answer_with(organization_id, idempotency_key, hold_id, prefix="ho")
    return HoldResult(hold_id, outcome.entry_id, outcome.balances)


@transactions.outermost
def void_hold(
    *, organization_id: UUID, hold_id: UUID, idempotency_key: str, actor: Actor, now: datetime
) -> HoldResult:
    """
    Give up what a hold still reserves.

    Replaying the key answers the hold as it is now.

    :raises HoldNotFound: if the organisation has no such hold
    :raises HoldAlreadyCaptured, HoldAlreadyVoided, HoldExpired: if it has ended
    """
    claim = idempotency.claim(
        organization_id, idempotency_key, "void_hold", hold_id, prefix="ho", acts_on=hold_id
    )
    if claim.replayed:
        return _replayed(organization_id, hold_id)
    outcome = _run(organization_id, VoidHold(hold_id=hold_id), actor=actor, now=now)
    return HoldResult(hold_id, None, outcome.balances)


def preview_hold(*, organization_id: UUID, hold: HoldRequest, now: datetime) -> HoldPreview:
    """
    Return the hold and the balances that placing it would leave, and write nothing.

    Where its reference stands for a hold already, that is the one that would be answered.

    :raises Refusal: as `place_hold` does
    """
    _refuse_late(organization_id, hold, now)
    after, outcome = _preview(organization_id, _placed(new_id(), hold), now=now)
    left = _hold_of(outcome)
    if outcome.status == "replayed":
        return HoldPreview(left.id, left, _standing(after, left))
    return HoldPreview(None, left, outcome.balances)


def preview_capture(
    *, organization_id: UUID, hold_id: UUID, capture: CaptureRequest, now: datetime
) -> HoldPreview:
    """
    Return the hold and the balances that capturing it would leave, and write nothing.

    :raises Refusal: as `capture_hold` does
    """
    _, outcome = _preview(organization_id, _captured(new_id(), hold_id, capture), now=now)
    return HoldPreview(hold_id, _hold_of(outcome), outcome.balances)


def preview_void(*, organization_id: UUID, hold_id: UUID, now: datetime) -> HoldPreview:
    """
    Return the hold and the balances that giving it up would leave, and write nothing.

    :raises Refusal: as `void_hold` does
    """
    _, outcome = _preview(organization_id, VoidHold(hold_id=hold_id), now=now)
    return HoldPreview(hold_id, _hold_of(outcome), outcome.balances)


def _refuse_late(organization_id: UUID, hold: HoldRequest, now: datetime) -> None:
    # Once its key is claimed: who asks again while the first request is under way waits for it.
    if hold.expires_at is not None and hold.expires_at <= now:
        # What stands under its reference is answered as expired, or this is refused as another one.
        if hold.reference is not None and _stands(organization_id, hold.reference):
            return
        raise InvalidInput(
            "The request is malformed.",
            errors=[{"pointer": "/expires_at", "detail": "This is not later than now."}],
        )


def _stands(organization_id: UUID, reference: str) -> bool:
    return rules.keeps_reference(reference) and bool(
        queries.find_holds_by_reference(organization_id=organization_id, references=[reference])
    )


def _hold_of(outcome: Outcome) -> HoldState:
    assert outcome.hold is not None  # noqa: S101  (what was not refused has its hold)
    return outcome.hold


def _replayed(organization_id: UUID, hold_id: UUID, entry_id: UUID | None = None) -> HoldResult:
    """Return what an act made, with the balances as they stand."""
    [hold] = queries.read_holds(organization_id=organization_id, hold_ids=[hold_id]).values()
    return HoldResult(hold_id, entry_id, _balances_of(organization_id, hold))


def _balances_of(organization_id: UUID, hold: HoldState) -> tuple[BalanceAfter, ...]:
    return queries.balances_now(
        organization_id=organization_id,
        account_ids=[hold.debit_account_id, hold.credit_account_id],
    )


def _standing(state: State, hold: HoldState) -> tuple[BalanceAfter, ...]:
    """Return the balances of a hold's accounts, as they would stand then."""
    balances = (state.balances[id_] for id_ in (hold.debit_account_id, hold.credit_account_id))
    return tuple(BalanceAfter(b.id, b.version, b.posted, b.available) for b in balances)


def _placed(id_: UUID, hold: HoldRequest) -> PlaceHold:
    return PlaceHold(
        id=id_,
        debit_account_id=hold.debit_account_id,
        credit_account_id=hold.credit_account_id,
        amount_minor=hold.amount_minor,
        currency=hold.currency,
        reference=hold.reference,
        expires_at=hold.expires_at,
        multi_capture=hold.multi_capture,
        metadata=hold.metadata,
    )


def _captured(entry_id: UUID, hold_id: UUID, capture: CaptureRequest) -> CaptureHold:
    return CaptureHold(
        hold_id=hold_id,
        entry_id=entry_id,
        kind="capture",
        amount_minor=capture.amount_minor,
        description=capture.description,
        effective_at=capture.effective_at,
        metadata=capture.metadata,
    )


def _run(organization_id: UUID, command: Command, *, actor: Actor, now: datetime) -> Outcome:
    [outcome], _ = _engine.run(
        organization_id=organization_id,
        commands=[command],
        origins=[Origin.of(actor)],
        now=now,
        atomic=True,
        reach_internal=False,
    )
    return outcome


def _preview(organization_id: UUID, command: Command, *, now: datetime) -> tuple[State, Outcome]:
    state, [outcome] = _engine.preview(organization_id=organization_id, commands=[command], now=now)
    _engine.raise_first([outcome])
    return state, outcome
