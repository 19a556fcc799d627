"""A file on its way to the bank: accepted, not sent, or nobody knows."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from apps.accounts import queries as accounts
from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.ledger import operations as ledger
from apps.payouts import queries
from apps.payouts.errors import BatchMayHaveBeenSent, BatchNotReady
from apps.payouts.models import PayoutBatch
from apps.payouts.operations import _books
from apps.payouts.operations._moves import enqueue, move_attempts, move_batch, move_payouts
from apps.payouts.operations._progress import next_day
from apps.payouts.states import AttemptState, BatchState, PayoutState

# When a batch of unknown fate is first asked about; then after an hour, then daily.
ASK_AFTER_SECONDS: Final = 300
# A bank that answers at all mostly does within seconds.
FETCH_AFTER_SECONDS: Final = 2


class SendOutcome(StrEnum):
    """What a channel said, or that it said nothing clear."""

    ACCEPTED = "accepted"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What a worker sends, once."""

    batch_id: UUID
    bank_account_id: UUID
    bank_file_id: UUID
    message_id: str


@transactions.outermost
def begin_send(
    *, organization_id: UUID, batch_id: UUID, actor: Actor, now: datetime
) -> Sending | None:
    """
    Take note, before the first byte, that a batch's file may reach the bank; then it is sent.

    None if there is nothing to send. A batch of which an earlier sender never told the outcome
    becomes `unknown` instead: it is never sent a second time.

    :raises BatchNotFound: if the organization has no such batch
    """
    batch = queries.get_batch_for_update(organization_id=organization_id, batch_id=batch_id)
    if batch.state != BatchState.EXPORTED or batch.file_id is None:
        return None
    if batch.send_started_at is not None:
        _mark_unknown(batch, actor=actor, now=now)
        return None
    batch.send_started_at = now
    batch.save(update_fields=["send_started_at"])
    return Sending(
        batch_id=batch.id,
        bank_account_id=batch.bank_account_id,
        bank_file_id=batch.file_id,
        message_id=batch.message_id,
    )


@transactions.outermost
def record_send(
    *,
    organization_id: UUID,
    batch_id: UUID,
    outcome: SendOutcome,
    actor: Actor,
    now: datetime,
) -> PayoutBatch:
    """
    Record what became of a send; what was learned another way meanwhile stands.

    Accepted: the money of every payout in it leaves the customers' accounts for transit. Not sent:
    the batch may be sent again. Unknown: all stays reserved, and the bank is asked later.
    """
    batch = queries.get_batch_for_update(organization_id=organization_id, batch_id=batch_id)
    if outcome is SendOutcome.ACCEPTED:
        submit(batch, actor=actor, now=now)
    elif batch.state != BatchState.EXPORTED:
        return batch
    elif outcome is SendOutcome.UNKNOWN:
        _mark_unknown(batch, actor=actor, now=now)
    else:
        batch.send_started_at = None
        batch.save(update_fields=["send_started_at"])
    return batch


@transactions.outermost
def mark_batch_sent(
    *,
    organization_id: UUID,
    batch_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> PayoutBatch:
    """
    Record that staff uploaded a batch's file to the bank by hand, and the bank took it.

    Replaying the key, or saying it again, returns the batch as it is now.

    :raises BatchNotReady: if there is no file to have been sent
    :raises CapabilityMissing: if the actor is staff without `payouts.mark_batch_sent`
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "mark_batch_sent",
        batch_id,
        reason,
        prefix="pb",
        acts_on=batch_id,
    )
    accounts.require_capability(
        actor=actor, capability="payouts.mark_batch_sent", organization_id=organization_id
    )
    batch = queries.get_batch_for_update(organization_id=organization_id, batch_id=batch_id)
    if claim.replayed:
        return batch
    if batch.file_id is None or batch.state == BatchState.VOIDED:
        raise BatchNotReady("This batch has no file.", state=batch.state)
    audit.record("payouts.mark_batch_sent", batch, actor=actor, reason=reason)
    submit(batch, actor=actor, now=now)
    return batch


def submit(batch: PayoutBatch, *, actor: Actor, now: datetime) -> None:
    """Take it as known that the bank has a locked batch's file; nothing if that was known."""
    if batch.state not in {BatchState.EXPORTED, BatchState.UNKNOWN}:
        return
    attempts = queries.list_batch_attempts(organization_id=batch.organization_id, batch_id=batch.id)
    payouts = queries.lock_payouts(
        organization_id=batch.organization_id, payout_ids=[one.payout_id for one in attempts]
    )
    going = [one for one in attempts if one.state in {AttemptState.BATCHED, AttemptState.UNKNOWN}]
    commands = [
        command
        for attempt in going
        if attempt.capture_entry_id is None
        for command in _books.capture(payouts[attempt.payout_id], attempt, effective_at=now)
    ]
    move_attempts(
        going,
        AttemptState.SUBMITTED,
        now=now,
        fields=["capture_entry_id", "fee_capture_entry_id"],
    )
    move_payouts(
        [payouts[one.payout_id] for one in going], PayoutState.SUBMITTED, actor=actor, now=now
    )
    batch.submitted_at = batch.submitted_at or now
    batch.send_started_at = batch.send_started_at or now
    move_batch(
        batch,
        BatchState.SUBMITTED,
        actor=actor,
        now=now,
        fields=["submitted_at", "send_started_at"],
    )
    enqueue(batch, "fetch", delay_seconds=FETCH_AFTER_SECONDS)
    ledger.post(organization_id=batch.organization_id, commands=commands, actor=actor, now=now)


def _mark_unknown(batch: PayoutBatch, *, actor: Actor, now: datetime) -> None:
    """Nobody knows whether the bank has it: all money stays reserved, nothing is sent again."""
    attempts = [
        one
        for one in queries.list_batch_attempts(
            organization_id=batch.organization_id, batch_id=batch.id
        )
        if one.state == AttemptState.BATCHED
    ]
    payouts = queries.lock_payouts(
        organization_id=batch.organization_id, payout_ids=[one.payout_id for one in attempts]
    )
    move_attempts(attempts, AttemptState.UNKNOWN, now=now)
    move_payouts(
        [payouts[one.payout_id] for one in attempts], PayoutState.UNKNOWN, actor=actor, now=now
    )
    move_batch(batch, BatchState.UNKNOWN, actor=actor, now=now)
    audit.record("payouts.mark_batch_unknown", batch, actor=actor)
    enqueue(batch, "status", delay_seconds=ASK_AFTER_SECONDS)


@transactions.outermost
def void_batch(
    *,
    organization_id: UUID,
    batch_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> PayoutBatch:
    """
    Void a batch of which no file was ever written; its payouts are scheduled again.

    Replaying the key returns the batch as it is now.

    :raises BatchMayHaveBeenSent: once a file exists: somebody may have downloaded or sent it
    :raises CapabilityMissing: if the actor is staff who may not decide `payouts.void_batch`
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "void_batch",
        batch_id,
        reason,
        prefix="pb",
        acts_on=batch_id,
    )
    accounts.require_capability(
        actor=actor,
        capability="payouts.void_batch",
        organization_id=organization_id,
        deciding=True,
    )
    batch = queries.get_batch_for_update(organization_id=organization_id, batch_id=batch_id)
    if claim.replayed:
        return batch
    if batch.state not in {BatchState.FROZEN, BatchState.RELEASED}:
        raise BatchMayHaveBeenSent("This batch has a file already.", state=batch.state)
    attempts = queries.list_batch_attempts(organization_id=organization_id, batch_id=batch.id)
    payouts = queries.lock_payouts(
        organization_id=organization_id, payout_ids=[one.payout_id for one in attempts]
    )
    audit.record("payouts.void_batch", batch, actor=actor, reason=reason)
    move_attempts(attempts, AttemptState.NOT_SENT, now=now)
    # Not the day they had: its cut-off may be over, and they would be frozen again at once.
    _, day = next_day(
        organization_id=organization_id,
        currency=batch.currency,
        bank_account_id=batch.bank_account_id,
        now=now,
    )
    move_payouts(
        list(payouts.values()),
        PayoutState.SCHEDULED,
        actor=actor,
        now=now,
        reason=reason,
        values={"execution_date": day},
    )
    move_batch(batch, BatchState.VOIDED, actor=actor, now=now)
    return batch
