"""What is written of holds: the rows, their history, and an event for each act."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.core import outbox
from apps.core.events import Event
from apps.core.ids import encode_id
from apps.core.outbox import Published
from apps.ledger import events
from apps.ledger.models import Hold, HoldEvent
from apps.ledger.operations._origin import Origin
from apps.ledger.rules import (
    CaptureHold,
    ExpireHold,
    HoldState,
    HoldStatus,
    Outcome,
    PlaceHold,
    State,
    VoidHold,
    keeps_reference,
)


def write(
    *,
    organization_id: UUID,
    after: State,
    made: Sequence[tuple[Outcome, Origin]],
    now: datetime,
) -> None:
    """Insert holds that were placed, change those that were there, and keep what happened."""
    acts = [
        (outcome, outcome.hold, origin)
        for outcome, origin in made
        if outcome.hold is not None and outcome.status != "replayed"
    ]
    if not acts:
        return
    placed = {
        outcome.command.id: outcome.command
        for outcome, _, _ in acts
        if isinstance(outcome.command, PlaceHold)
    }
    # First what was there: a hold of Kassa's own that ends frees its reference for another.
    changed = {hold.id: after.holds[hold.id] for _, hold, _ in acts if hold.id not in placed}
    if changed:
        Hold.objects.filter(organization_id=organization_id).bulk_update(
            [
                Hold(
                    id=state.id,
                    organization_id=organization_id,
                    status=state.status,
                    captured_minor=state.captured_minor,
                    event_sequence=state.event_sequence,
                )
                for state in changed.values()
            ],
            ["status", "captured_minor", "event_sequence"],
        )
    # A hold that is placed and captured in one batch is inserted as it is after all of it.
    Hold.objects.bulk_create(
        [_row(organization_id, after.holds[id_], command, now) for id_, command in placed.items()]
    )
    HoldEvent.objects.bulk_create(
        [_history(organization_id, outcome, hold) for outcome, hold, _ in acts]
    )
    outbox.publish_taken(
        [
            Published.of(_event(organization_id, outcome, hold, now), *origin)
            for outcome, hold, origin in acts
        ]
    )


def _row(organization_id: UUID, state: HoldState, command: PlaceHold, now: datetime) -> Hold:
    return Hold(
        id=state.id,
        organization_id=organization_id,
        debit_account_id=state.debit_account_id,
        credit_account_id=state.credit_account_id,
        currency=state.currency,
        amount_minor=state.amount_minor,
        captured_minor=state.captured_minor,
        status=state.status,
        multi_capture=state.multi_capture,
        reference=state.reference,
        keeps_reference=keeps_reference(state.reference),
        metadata=dict(command.metadata or {}),
        event_sequence=state.event_sequence,
        expires_at=state.expires_at,
        created_at=now,
    )


def _history(organization_id: UUID, outcome: Outcome, hold: HoldState) -> HoldEvent:
    kind, amount = {
        PlaceHold: ("placed", hold.amount_minor),
        CaptureHold: ("captured", _captured(outcome)),
        VoidHold: ("voided", hold.remaining_minor),
        ExpireHold: ("expired", hold.remaining_minor),
    }[type(outcome.command)]
    return HoldEvent(
        organization_id=organization_id,
        hold_id=hold.id,
        kind=kind,
        amount_minor=amount,
        entry_id=outcome.entry_id,
        terminal=hold.status != HoldStatus.OPEN,
    )


def _captured(outcome: Outcome) -> int:
    return abs(outcome.lines[0].amount_minor) if outcome.lines else 0


def _event(organization_id: UUID, outcome: Outcome, hold: HoldState, now: datetime) -> Event:
    common: dict[str, Any] = {
        "organization_id": organization_id,
        "aggregate_id": encode_id("ho", hold.id),
        "sequence": hold.event_sequence,
        "occurred_at": now,
        "currency": hold.currency,
    }
    ended = hold.status != HoldStatus.OPEN
    match outcome.command:
        case PlaceHold():
            return events.HoldPlaced(
                **common,
                debit_account=encode_id("la", hold.debit_account_id),
                credit_account=encode_id("la", hold.credit_account_id),
                amount=hold.amount_minor,
                reference=hold.reference,
                expires_at=hold.expires_at,
                multi_capture=hold.multi_capture,
            )
        case CaptureHold():
            return events.HoldCaptured(
                **common,
                amount=_captured(outcome),
                captured=hold.captured_minor,
                released=hold.remaining_minor if ended else 0,
                status=hold.status,
                journal_entry=encode_id("je", outcome.entry_id) if outcome.entry_id else None,
            )
        case VoidHold():
            return events.HoldVoided(**common, released=hold.remaining_minor)
        case _:
            return events.HoldExpired(**common, released=hold.remaining_minor)
