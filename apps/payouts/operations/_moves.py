"""The one way payouts, attempts and batches change state: row, history and event together."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from apps.core import context, outbox, work
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken
from apps.core.work import WorkState
from apps.ledger import operations as ledger
from apps.ledger.rules import Command, VoidHold
from apps.payouts import events
from apps.payouts.models import (
    BatchWork,
    Payout,
    PayoutAttempt,
    PayoutBatch,
    PayoutTransition,
)
from apps.payouts.states import (
    ATTEMPT_MOVES,
    BATCH_MOVES,
    CLOSED,
    PAYOUT_MOVES,
    AttemptState,
    BatchState,
    PayoutState,
)

WORK_KIND: Final = "payouts.batches"
_REASON_LENGTH: Final = 500
# What may change with an attempt's state, as Postgres types it.
_COLUMNS: Final = {
    "capture_entry_id": "uuid",
    "fee_capture_entry_id": "uuid",
    "reversal_entry_id": "uuid",
    "settle_entry_id": "uuid",
    "settled_line_id": "uuid",
    "return_entry_id": "uuid",
    "returned_line_id": "uuid",
    "returned_minor": "bigint",
    "bank_status": "text",
    "reason_code": "text",
    "reason_text": "text",
}


def move_payouts(
    payouts: Sequence[Payout],
    state: PayoutState,
    *,
    actor: Actor,
    now: datetime,
    reason: str = "",
    values: Mapping[str, object] | None = None,
) -> None:
    """
    Move locked payouts of one organization to a state, and set the same `values` on all of them.

    Three statements however many: rows, history, and the event each of them publishes.
    """
    if not payouts:
        return
    for payout in payouts:
        if state not in PAYOUT_MOVES[PayoutState(payout.state)]:
            msg = f"Payout {payout.id} does not go from {payout.state} to {state}."
            raise InvariantBroken(msg)
    changed = {
        "hold_reasons": [],
        "available_at": None,
        **(values or {}),
        "state": state,
        "state_changed_at": now,
        "closed_at": now if state in CLOSED else None,
    }
    _append_history(payouts, state, actor=actor, now=now, reason=reason)
    for payout in payouts:
        payout.event_sequence += 1
        for name, value in changed.items():
            setattr(payout, name, value)
    Payout.objects.filter(
        organization_id=payouts[0].organization_id, id__in=[payout.id for payout in payouts]
    ).update(event_sequence=F("event_sequence") + 1, **changed)
    publish_all(payouts, state, actor=actor, now=now)


def _append_history(
    payouts: Sequence[Payout], state: PayoutState, *, actor: Actor, now: datetime, reason: str
) -> None:
    PayoutTransition.objects.bulk_create(
        PayoutTransition(
            organization_id=payout.organization_id,
            payout_id=payout.id,
            number=payout.event_sequence + 1,
            from_state=payout.state,
            to_state=state,
            actor=str(actor),
            reason=reason[:_REASON_LENGTH],
            occurred_at=now,
        )
        for payout in payouts
    )


def publish_all(
    payouts: Sequence[Payout], state: PayoutState, *, actor: Actor, now: datetime
) -> None:
    """Publish what entering this state is called, for each payout as it is now."""
    for payout in payouts:
        outbox.publish(events.OF_STATE[state].of(payout, now=now), actor=actor, now=now)


def move_attempts(
    attempts: Sequence[PayoutAttempt],
    state: AttemptState,
    *,
    now: datetime,
    fields: Sequence[str] = (),
) -> None:
    """
    Move attempts, whose payouts are locked, to a state; `fields` were set on them and are saved.

    One statement however many.
    """
    if not attempts:
        return
    for attempt in attempts:
        if state not in ATTEMPT_MOVES[AttemptState(attempt.state)]:
            msg = f"Attempt {attempt.id} does not go from {attempt.state} to {state}."
            raise InvariantBroken(msg)
        attempt.state, attempt.state_changed_at = state, now
    sets = "".join(f", {name} = given.{name}" for name in fields)
    arrays = "".join(f", %s::{_COLUMNS[name]}[]" for name in fields)
    names = ", ".join(("id", *fields))
    # Names and types are this module's own constants; every value is a parameter.
    sql = (
        f"UPDATE payouts_attempt SET state = %s, state_changed_at = %s{sets}"  # noqa: S608
        f" FROM unnest(%s::uuid[]{arrays}) AS given({names})"
        " WHERE organization_id = %s AND payouts_attempt.id = given.id"
    )
    columns = [[getattr(one, name) for one in attempts] for name in ("id", *fields)]
    with connection.cursor() as cursor:
        cursor.execute(sql, [state, now, *columns, attempts[0].organization_id])


def move_batch(
    batch: PayoutBatch,
    state: BatchState,
    *,
    actor: Actor,
    now: datetime,
    fields: Sequence[str] = (),
) -> None:
    """Move a locked batch to a state; `fields` were set on it and are saved with it."""
    if state not in BATCH_MOVES[BatchState(batch.state)]:
        msg = f"Batch {batch.id} does not go from {batch.state} to {state}."
        raise InvariantBroken(msg)
    batch.state = state
    batch.save(update_fields=["state", *fields])
    outbox.publish(events.PayoutBatchMoved.of(batch, now=now), actor=actor, now=now)


def release_holds(payouts: Sequence[Payout], *, actor: Actor, now: datetime) -> None:
    """Give amount and fee back to the customers of these payouts, which captured neither."""
    commands: list[Command] = []
    for payout in payouts:
        commands.append(VoidHold(hold_id=payout.hold_id, linked=payout.fee_hold_id is not None))
        if payout.fee_hold_id is not None:
            commands.append(VoidHold(hold_id=payout.fee_hold_id))
    if commands:
        ledger.post(
            organization_id=payouts[0].organization_id, commands=commands, actor=actor, now=now
        )


def enqueue(batch: PayoutBatch, step: str, *, delay_seconds: int = 0) -> None:
    """Have a worker take this step of the batch, now or after the delay, once or once again."""
    row = BatchWork(organization_id=batch.organization_id, batch_id=batch.id, step=step)
    BatchWork.objects.bulk_create([row], ignore_conflicts=True)
    BatchWork.objects.filter(
        organization_id=batch.organization_id, batch_id=batch.id, step=step
    ).exclude(state=WorkState.LEASED).update(
        state=WorkState.PENDING,
        next_attempt_at=Now() + timedelta(seconds=delay_seconds),
        attempts=0,
        lapses=0,
        traceparent=context.current().traceparent,
    )
    work.nudge(WORK_KIND)
