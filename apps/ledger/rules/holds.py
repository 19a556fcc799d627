"""Holds of a draft: placed, captured, voided, expired."""

from copy import copy
from uuid import UUID

from apps.core.ids import encode_id
from apps.ledger import errors
from apps.ledger.rules import checks, posting
from apps.ledger.rules.draft import Draft
from apps.ledger.rules.values import (
    RESERVED_REFERENCES,
    BalanceAfter,
    BalanceState,
    CaptureHold,
    ExpireHold,
    HoldState,
    HoldStatus,
    KnownEntry,
    Outcome,
    PlaceHold,
    PostedLine,
    VoidHold,
)


def keeps_reference(reference: str | None) -> bool:
    """
    Say whether a reference names one hold for ever, as a client's does.

    Kassa's own acts hold money again under the same name, once the hold of that name has ended.
    """
    if not reference:
        return False
    return not reference.startswith(RESERVED_REFERENCES)


def place_hold(draft: Draft, command: PlaceHold) -> Outcome:
    """
    Reserve an amount on both accounts; the floor is checked here and at no capture.

    Asked for again under a client's reference, the hold is answered as it is, if it has ended too.
    """
    if command.reference:
        checks.reference(command.reference, reach_internal=draft.state.reach_internal)
    known = draft.state.known_holds.get(command.reference or "")
    # One of Kassa's own that ended, if only a moment ago in this batch, stands in nobody's way. One
    # whose time was over before the batch has ended by now: the shell sees to that.
    if known is not None and (
        keeps_reference(command.reference) or draft.holds[known].status == HoldStatus.OPEN
    ):
        return _replay_hold(command, draft.holds[known])
    debit, credit = command.debit_account_id, command.credit_account_id
    legs = [
        (debit, command.amount_minor, command.currency),
        (credit, -command.amount_minor, command.currency),
    ]
    balances = posting.accounts(draft.state, legs)
    at = posting.effective_at(draft, None, *balances.values())
    posting.check_funds(draft, balances, legs, at)
    debited, credited = draft.own(balances[debit]), draft.own(balances[credit])
    debited.pending_debits += command.amount_minor
    credited.pending_credits += command.amount_minor
    draft.holds[command.id] = HoldState(
        id=command.id,
        debit_account_id=debit,
        credit_account_id=credit,
        currency=command.currency,
        amount_minor=command.amount_minor,
        expires_at=command.expires_at,
        reference=command.reference,
        multi_capture=command.multi_capture,
        event_sequence=1,
    )
    if command.reference:
        draft.state.known_holds[command.reference] = command.id
    after = _after(debited, credited)
    return Outcome(command, "held", after=after, hold=copy(draft.holds[command.id]))


def _replay_hold(command: PlaceHold, hold: HoldState) -> Outcome:
    asked = (
        command.debit_account_id, command.credit_account_id, command.amount_minor,
        command.currency, command.multi_capture, command.expires_at,
    )  # fmt: skip
    stands = (
        hold.debit_account_id, hold.credit_account_id, hold.amount_minor, hold.currency,
        hold.multi_capture, hold.expires_at,
    )  # fmt: skip
    if asked != stands:
        raise errors.ReferenceReused(
            "This reference stands for another hold.", hold=encode_id("ho", hold.id)
        )
    return Outcome(command, "replayed", hold=copy(hold))


def _after(*balances: BalanceState) -> tuple[BalanceAfter, ...]:
    return tuple(BalanceAfter(b.id, b.version, b.posted, b.available) for b in balances)


def _open_hold(draft: Draft, hold_id: UUID) -> HoldState:
    """Return a hold that can be captured or given up, or refuse with what became of it."""
    hold = _standing_hold(draft, hold_id)
    if _is_expired(draft, hold):
        raise errors.HoldExpired("The hold has expired.", hold=encode_id("ho", hold.id))
    return hold


def _standing_hold(draft: Draft, hold_id: UUID) -> HoldState:
    hold = draft.holds.get(hold_id)
    if hold is None:
        raise errors.HoldNotFound("There is no such hold.", hold=encode_id("ho", hold_id))
    if not draft.state.reach_internal:
        for account_id in (hold.debit_account_id, hold.credit_account_id):
            checks.reachable(draft.balances[account_id])
    if hold.status == HoldStatus.CAPTURED:
        raise errors.HoldAlreadyCaptured("The hold was captured.", hold=encode_id("ho", hold_id))
    if hold.status == HoldStatus.VOIDED:
        raise errors.HoldAlreadyVoided("The hold was voided.", hold=encode_id("ho", hold_id))
    if hold.status == HoldStatus.EXPIRED:
        raise errors.HoldExpired("The hold has expired.", hold=encode_id("ho", hold_id))
    return hold


def _is_expired(draft: Draft, hold: HoldState) -> bool:
    """Expiry is decided by the clock at the moment of the act, whether or not a sweeper ran."""
    return hold.expires_at is not None and draft.now is not None and hold.expires_at <= draft.now


def _release(draft: Draft, hold: HoldState, amount_minor: int) -> tuple[BalanceState, BalanceState]:
    debit = draft.own(draft.balances[hold.debit_account_id])
    credit = draft.own(draft.balances[hold.credit_account_id])
    debit.pending_debits -= amount_minor
    credit.pending_credits -= amount_minor
    return debit, credit


def capture_hold(draft: Draft, command: CaptureHold) -> Outcome:
    """Post what is captured, and release it, or all that is left if the hold ends with it."""
    known = draft.known.get(command.reference) if command.reference else None
    hold = draft.holds.get(command.hold_id)
    if known is not None and hold is not None:
        return _replay_capture(command, known, hold)
    hold = _open_hold(draft, command.hold_id)
    left = hold.remaining_minor
    amount = left if command.amount_minor is None else command.amount_minor
    if amount > left:
        raise errors.CaptureExceedsHold(
            "More is captured than the hold still reserves.",
            hold=encode_id("ho", hold.id),
            remaining=left,
        )
    # Its money was taken from what was available as the hold was placed: a capture cannot break a
    # floor of today, nor is it refused by an account that was frozen since. A back-dated one is
    # checked against the past like any other.
    ends = not hold.multi_capture or amount in {0, left}
    accounts = (draft.balances[hold.debit_account_id], draft.balances[hold.credit_account_id])
    at = posting.effective_at(draft, command.effective_at, *accounts)
    freed = left if ends else amount
    if amount and command.effective_at is not None:
        for balance, signed in zip(accounts, (amount, -amount), strict=True):
            posting.check_later(draft, balance, signed, at, freed=freed)
    debit, credit = _release(draft, hold, freed)
    lines: tuple[PostedLine, ...] = ()
    if amount:
        lines = (
            posting.post_line(draft, debit, amount, at),
            posting.post_line(draft, credit, -amount, at),
        )
    hold.captured_minor += amount
    hold.event_sequence += 1
    if ends:
        hold.status = HoldStatus.CAPTURED
    if command.reference and amount:
        draft.known[command.reference] = KnownEntry(command.entry_id, _hold_legs(hold, amount))
    entry_id = command.entry_id if amount else None
    after = _after(debit, credit)
    return Outcome(command, "posted", entry_id, lines, None, at, after, copy(hold))


def _replay_capture(command: CaptureHold, known: KnownEntry, hold: HoldState) -> Outcome:
    amount = command.amount_minor
    if amount is None:
        # All that was left then is the answer, if it is one that could have been given.
        amount = min(hold.amount_minor, abs(known.legs[0][1]))
    return posting.replay(command, known, _hold_legs(hold, amount))


def _hold_legs(hold: HoldState, amount: int) -> tuple[tuple[UUID, int, str], ...]:
    return (
        (hold.debit_account_id, amount, hold.currency),
        (hold.credit_account_id, -amount, hold.currency),
    )


def void_hold(draft: Draft, command: VoidHold) -> Outcome:
    """Release all that is left."""
    hold = _open_hold(draft, command.hold_id)
    debit, credit = _release(draft, hold, hold.remaining_minor)
    hold.status = HoldStatus.VOIDED
    hold.event_sequence += 1
    return Outcome(command, "voided", after=_after(debit, credit), hold=copy(hold))


def expire_hold(draft: Draft, command: ExpireHold) -> Outcome:
    """Release all that is left, once the hold's time is over."""
    hold = _standing_hold(draft, command.hold_id)
    if not _is_expired(draft, hold):
        raise errors.HoldNotExpired("The hold's time is not over.", hold=encode_id("ho", hold.id))
    debit, credit = _release(draft, hold, hold.remaining_minor)
    hold.status = HoldStatus.EXPIRED
    hold.event_sequence += 1
    return Outcome(command, "expired", after=_after(debit, credit), hold=copy(hold))
