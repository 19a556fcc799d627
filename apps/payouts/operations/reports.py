"""The bank's answer to one of our files (pain.002), applied in chunks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from apps.banking.formats.values import StatusReport, TransactionStatus
from apps.core import transactions
from apps.core.actors import Actor
from apps.payouts import queries
from apps.payouts.models import BankFact, PayoutAttempt, PayoutBatch
from apps.payouts.operations._following import close_batch
from apps.payouts.operations._moves import move_batch
from apps.payouts.operations._rejecting import Rejection
from apps.payouts.operations._report_words import (
    Said,
    find_batch,
    first_reason,
    overall,
    read_report,
)
from apps.payouts.operations.sending import submit
from apps.payouts.rules import Desk, handling
from apps.payouts.states import BATCH_MOVES, AttemptState, BankFactState, BatchState

CHUNK: Final = 1000
_TAKEN: Final = frozenset({"ACTC", "ACCP", "ACSP", "PDNG", "RCVD", "ACWC"})
_DONE: Final = frozenset({"ACSC", "ACCC"})
_CHANGED: Final = "ACWC"
# Facts of a file are counted: 0 is the file's own, 1 and on the attempts by their number in our
# file, and from here on transactions that are nobody's.
_STRANGERS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportResult:
    """What became of a report: its batch (None: nobody's), and how many attempts it rejected."""

    batch_id: UUID | None
    rejected: int = 0
    unmatched: int = 0


def apply_status_report(
    *,
    organization_id: UUID,
    bank_file_id: UUID,
    report: StatusReport,
    actor: Actor,
    now: datetime,
) -> ReportResult:
    """
    Apply what a bank says of a file of ours; the status decides the money, the code the rest.

    Rejections of the group or of its payment block count for every attempt under them. Chunks of
    1,000 attempts commit by themselves; the same file again changes nothing that it did before.
    """
    batch = find_batch(organization_id, report)
    if batch is None:
        _store_strange_report(
            organization_id=organization_id, bank_file_id=bank_file_id, report=report, now=now
        )
        return ReportResult(batch_id=None, unmatched=1)
    said, strangers = read_report(report, batch)
    _take_in(
        batch_id=batch.id,
        organization_id=organization_id,
        bank_file_id=bank_file_id,
        report=report,
        strangers=strangers,
        actor=actor,
        now=now,
    )
    rejected = 0
    ids = sorted(said)
    for start in range(0, len(ids), CHUNK):
        rejected += _apply_chunk(
            organization_id=organization_id,
            batch_id=batch.id,
            bank_file_id=bank_file_id,
            said={id_: said[id_] for id_ in ids[start : start + CHUNK]},
            actor=actor,
            now=now,
        )
    _finish(
        organization_id=organization_id,
        batch_id=batch.id,
        status=overall(report),
        actor=actor,
        now=now,
    )
    return ReportResult(batch_id=batch.id, rejected=rejected, unmatched=len(strangers))


@transactions.outermost
def _store_strange_report(
    *, organization_id: UUID, bank_file_id: UUID, report: StatusReport, now: datetime
) -> None:
    """Keep a report about a file that nobody knows, for staff."""
    _store(
        [
            _fact(
                organization_id=organization_id,
                bank_file_id=bank_file_id,
                position=0,
                state=BankFactState.UNMATCHED,
                said=Said(status=overall(report), reason=first_reason(report.reasons)),
                desk=Desk.STAFF,
                now=now,
                end_to_end_id=report.original_message_id or "",
            )
        ]
    )


@transactions.outermost
def _take_in(
    *,
    organization_id: UUID,
    batch_id: UUID,
    bank_file_id: UUID,
    report: StatusReport,
    strangers: Sequence[TransactionStatus],
    actor: Actor,
    now: datetime,
) -> None:
    """Store the report's own word and what it says of strangers; whoever answers has the file."""
    batch = queries.get_batch_for_update(organization_id=organization_id, batch_id=batch_id)
    submit(batch, actor=actor, now=now)
    status = overall(report)
    fact = partial(_fact, organization_id=organization_id, bank_file_id=bank_file_id, now=now)
    facts = [
        fact(
            position=0,
            state=BankFactState.APPLIED,
            said=Said(status=status, reason=first_reason(report.reasons)),
            desk=Desk.STAFF if status == _CHANGED else Desk.NOBODY,
            batch_id=batch_id,
        )
    ]
    facts += [
        fact(
            position=_STRANGERS + place,
            state=BankFactState.UNMATCHED,
            said=Said(status=stranger.status or "", reason=first_reason(stranger.reasons)),
            desk=Desk.STAFF,
            batch_id=batch_id,
            end_to_end_id=stranger.end_to_end_id or stranger.instruction_id or "",
        )
        for place, stranger in enumerate(strangers)
    ]
    _store(facts)


@transactions.outermost
def _apply_chunk(
    *,
    organization_id: UUID,
    batch_id: UUID,
    bank_file_id: UUID,
    said: Mapping[UUID, Said],
    actor: Actor,
    now: datetime,
) -> int:
    """Apply what is said of these attempts; return how many it rejected."""
    # Batch, then payouts: the order in which sender, janitor and statement import wait, too.
    batch = queries.get_batch_for_update(organization_id=organization_id, batch_id=batch_id)
    found = queries.list_attempts_by_id(organization_id=organization_id, attempt_ids=list(said))
    payouts = queries.lock_payouts(
        organization_id=organization_id, payout_ids=[one.payout_id for one in found]
    )
    # Read again under the locks: what was true before them decides nothing.
    attempts = queries.list_attempts_by_id(organization_id=organization_id, attempt_ids=list(said))
    rejected = [
        one
        for one in attempts
        if said[one.id].is_rejection and one.state in {AttemptState.SUBMITTED, AttemptState.UNKNOWN}
    ]
    _store(
        [
            _attempt_fact(one, said[one.id], bank_file_id=bank_file_id, batch=batch, now=now)
            for one in attempts
        ]
    )
    Rejection(payouts=payouts, said=said, actor=actor, now=now).apply(rejected)
    return len(rejected)


@transactions.outermost
def _finish(
    *, organization_id: UUID, batch_id: UUID, status: str, actor: Actor, now: datetime
) -> None:
    """Move the batch to what the report makes of it; a late or weaker word changes nothing."""
    batch = queries.get_batch_for_update(organization_id=organization_id, batch_id=batch_id)
    attempts = queries.list_batch_attempts(organization_id=organization_id, batch_id=batch_id)
    states = {attempt.state for attempt in attempts}
    target = _batch_state(status, states)
    if target is not None and target in BATCH_MOVES[BatchState(batch.state)]:
        move_batch(batch, target, actor=actor, now=now)
    close_batch(batch, actor=actor, now=now)


def _batch_state(status: str, states: set[str]) -> BatchState | None:
    if states == {AttemptState.REJECTED}:
        return BatchState.REJECTED
    if states == {AttemptState.UNKNOWN}:
        return BatchState.UNKNOWN
    if AttemptState.REJECTED in states or status == "PART":
        return BatchState.PARTLY_ACCEPTED
    if status in _DONE:
        return BatchState.ACCEPTED
    return BatchState.ACKNOWLEDGED if status in _TAKEN else None


def _attempt_fact(
    attempt: PayoutAttempt, said: Said, *, bank_file_id: UUID, batch: PayoutBatch, now: datetime
) -> BankFact:
    """Return what is kept of a word on an attempt: applied, or later and weaker than what is."""
    state, desk = BankFactState.APPLIED, Desk.NOBODY
    if said.is_rejection:
        desk = handling(said.reason.code).desk
        if attempt.state not in {AttemptState.SUBMITTED, AttemptState.UNKNOWN}:
            state = BankFactState.SUPERSEDED
            known = attempt.state == AttemptState.REJECTED
            desk = Desk.NOBODY if known else Desk.STAFF
    elif attempt.state != AttemptState.SUBMITTED:
        state = BankFactState.SUPERSEDED
    elif said.status == _CHANGED:
        desk = Desk.STAFF
    return _fact(
        organization_id=attempt.organization_id,
        bank_file_id=bank_file_id,
        position=attempt.number_in_file,
        state=state,
        said=said,
        desk=desk,
        now=now,
        batch_id=batch.id,
        attempt_id=attempt.id,
        end_to_end_id=attempt.end_to_end_id,
    )


def _fact(  # noqa: PLR0913  (a row's columns, named)
    *,
    organization_id: UUID,
    bank_file_id: UUID,
    position: int,
    state: BankFactState,
    said: Said,
    desk: Desk,
    now: datetime,
    batch_id: UUID | None = None,
    attempt_id: UUID | None = None,
    end_to_end_id: str = "",
) -> BankFact:
    return BankFact(
        organization_id=organization_id,
        kind="status",
        state=state,
        batch_id=batch_id,
        attempt_id=attempt_id,
        bank_file_id=bank_file_id,
        position=position,
        end_to_end_id=end_to_end_id[:35],
        bank_status=said.status[:8],
        reason_code=(said.reason.code or "")[:35],
        reason_text=said.reason.text[:500],
        desk=desk.value,
        recorded_at=now,
    )


def _store(facts: Sequence[BankFact]) -> None:
    # The same report again: its facts are there, and say what was done with them the first time.
    BankFact.objects.bulk_create(facts, ignore_conflicts=True, batch_size=1000)
