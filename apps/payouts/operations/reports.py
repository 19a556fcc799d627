"""The bank's answer to one of our files (pain.002), applied in chunks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from apps.banking.formats.values import PaymentStatus, Reason, StatusReport, TransactionStatus
from apps.core import transactions
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.ledger import operations as ledger
from apps.ledger.rules import Command
from apps.payouts import queries
from apps.payouts.models import BankFact, Payout, PayoutAttempt, PayoutBatch
from apps.payouts.operations import _books
from apps.payouts.operations._effects import apply_to_destinations
from apps.payouts.operations._following import close_batch, follow
from apps.payouts.operations._moves import move_attempts, move_batch, move_payouts
from apps.payouts.operations.sending import submit
from apps.payouts.rules import Desk, Handling, MoneyEffect, handling
from apps.payouts.states import (
    BATCH_MOVES,
    AttemptState,
    BankFactState,
    BatchState,
    PayoutState,
)

CHUNK: Final = 1000
REJECTED: Final = "RJCT"
_TAKEN: Final = frozenset({"ACTC", "ACCP", "ACSP", "PDNG", "RCVD", "ACWC"})
_DONE: Final = frozenset({"ACSC", "ACCC"})
_CHANGED: Final = "ACWC"
_NO_REASON: Final = Reason()
# Facts of a file are counted: 0 is the file's own, 1 and on the attempts by their number in our
# file, and from here on transactions that are nobody's.
_STRANGERS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a report says of one attempt."""

    status: str
    reason: Reason

    @property
    def is_rejection(self) -> bool:
        return self.status == REJECTED


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
    batch = _find_batch(organization_id, report)
    if batch is None:
        _store_strange_report(
            organization_id=organization_id, bank_file_id=bank_file_id, report=report, now=now
        )
        return ReportResult(batch_id=None, unmatched=1)
    said, strangers = _read(report, batch)
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
        status=_overall(report),
        actor=actor,
        now=now,
    )
    return ReportResult(batch_id=batch.id, rejected=rejected, unmatched=len(strangers))


# --- Reading ------------------------------------------------------------------------------------


def _find_batch(organization_id: UUID, report: StatusReport) -> PayoutBatch | None:
    references = [report.original_message_id]
    references += [payment.payment_information_id for payment in report.payments]
    found = queries.find_batches(
        organization_id=organization_id, references=[name for name in references if name]
    )
    for name in references:
        if name and name in found:
            return queries.get_batch(organization_id=organization_id, batch_id=found[name].batch_id)
    return None


def _read(
    report: StatusReport, batch: PayoutBatch
) -> tuple[dict[UUID, Said], list[TransactionStatus]]:
    """Return what is said of each attempt of the batch, and transactions that are not of it."""
    attempts = queries.list_batch_attempts(organization_id=batch.organization_id, batch_id=batch.id)
    by_end_to_end = {attempt.end_to_end_id: attempt.id for attempt in attempts}
    by_instruction = {str(attempt.number_in_file): attempt.id for attempt in attempts}
    said: dict[UUID, Said] = {}
    strangers: list[TransactionStatus] = []
    whole = _whole(report)
    if whole is not None:
        said = {attempt.id: whole for attempt in attempts}
    for payment in report.payments:
        for transaction in payment.transactions:
            id_ = by_end_to_end.get(transaction.end_to_end_id or "")
            if id_ is None and transaction.end_to_end_id is None:
                id_ = by_instruction.get(transaction.instruction_id or "")
            if id_ is None:
                strangers.append(transaction)
                continue
            _merge(said, id_, _said(transaction, payment, report), whole=whole)
    return said, strangers


def _whole(report: StatusReport) -> Said | None:
    """Return the rejection of everything, if the group or its payment block is rejected."""
    if report.group_status == REJECTED:
        return Said(status=REJECTED, reason=_first(report.reasons, *_payment_reasons(report)))
    for payment in report.payments:
        if payment.status == REJECTED:
            return Said(status=REJECTED, reason=_first(payment.reasons, report.reasons))
    return None


def _payment_reasons(report: StatusReport) -> Iterable[Sequence[Reason]]:
    return (payment.reasons for payment in report.payments)


def _said(transaction: TransactionStatus, payment: PaymentStatus, report: StatusReport) -> Said:
    return Said(
        status=transaction.status or payment.status or report.group_status or "",
        reason=_first(transaction.reasons, payment.reasons, report.reasons),
    )


def _first(*lists: Sequence[Reason]) -> Reason:
    return next((reason for reasons in lists for reason in reasons), _NO_REASON)


def _merge(said: dict[UUID, Said], id_: UUID, one: Said, *, whole: Said | None) -> None:
    """Keep the strongest word on an attempt; under a rejected whole its own reason is better."""
    known = said.get(id_)
    if whole is not None:
        own = one.reason if one.reason.code else whole.reason
        said[id_] = Said(status=REJECTED, reason=own)
    elif known is None or not known.is_rejection:
        said[id_] = one


def _overall(report: StatusReport) -> str:
    statuses = [report.group_status, *(payment.status for payment in report.payments)]
    return next((status for status in statuses if status), "")


# --- Writing ------------------------------------------------------------------------------------


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
                said=Said(status=_overall(report), reason=_first(report.reasons)),
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
    status = _overall(report)
    fact = partial(_fact, organization_id=organization_id, bank_file_id=bank_file_id, now=now)
    facts = [
        fact(
            position=0,
            state=BankFactState.APPLIED,
            said=Said(status=status, reason=_first(report.reasons)),
            desk=Desk.STAFF if status == _CHANGED else Desk.NOBODY,
            batch_id=batch_id,
        )
    ]
    facts += [
        fact(
            position=_STRANGERS + place,
            state=BankFactState.UNMATCHED,
            said=Said(status=stranger.status or "", reason=_first(stranger.reasons)),
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
    _Rejection(payouts=payouts, said=said, actor=actor, now=now).apply(rejected)
    return len(rejected)


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


@dataclass(frozen=True, kw_only=True)
class _Rejection:
    """Rejections of one chunk: each attempt by its code, all of their money in one posting."""

    payouts: Mapping[UUID, Payout]
    said: Mapping[UUID, Said]
    actor: Actor
    now: datetime

    def apply(self, attempts: Sequence[PayoutAttempt]) -> None:
        if not attempts:
            return
        for attempt in attempts:
            reason = self.said[attempt.id].reason
            attempt.bank_status = REJECTED
            attempt.reason_code = (reason.code or "")[:35]
            attempt.reason_text = reason.text[:500]
        shut = _books.closed_to_money(
            _books.accounts_of(self._of(attempts), now=self.now),
            organization_id=attempts[0].organization_id,
        )
        by_effect: dict[MoneyEffect, list[PayoutAttempt]] = {}
        for attempt in attempts:
            effect = self._row(attempt).reject
            if (
                effect is MoneyEffect.STAYS_RESERVED
                and self.payouts[attempt.payout_id].customer_id in shut
            ):
                # A frozen account takes no hold.
                effect = MoneyEffect.TO_SUSPENSE
            by_effect.setdefault(effect, []).append(attempt)
        self._doubt(by_effect.get(MoneyEffect.NOTHING_MOVES, []))
        commands = self._undo(
            [
                *by_effect.get(MoneyEffect.TO_CUSTOMER, []),
                *by_effect.get(MoneyEffect.TO_SUSPENSE, []),
            ]
        )
        commands += self._keep(by_effect.get(MoneyEffect.STAYS_RESERVED, []))
        if commands:
            ledger.post(
                organization_id=attempts[0].organization_id,
                commands=commands,
                actor=self.actor,
                now=self.now,
            )

    def _row(self, attempt: PayoutAttempt) -> Handling:
        return handling(attempt.reason_code)

    def _of(self, attempts: Sequence[PayoutAttempt]) -> list[Payout]:
        return [self.payouts[attempt.payout_id] for attempt in attempts]

    def _doubt(self, attempts: Sequence[PayoutAttempt]) -> None:
        """A duplicate, says the bank: it may hold an earlier copy, so nothing moves."""
        fresh = [one for one in attempts if one.state == AttemptState.SUBMITTED]
        fields = ["bank_status", "reason_code", "reason_text"]
        move_attempts(fresh, AttemptState.UNKNOWN, now=self.now, fields=fields)
        follow(self._of(fresh), actor=self.actor, now=self.now, reason="bank_says_duplicate")

    def _undo(self, attempts: Sequence[PayoutAttempt]) -> list[Command]:
        """To the customer: amount and fee come back, and the destination learns from the code."""
        if not attempts:
            return []
        commands = self._reject(attempts)
        follow(
            self._of(attempts),
            actor=self.actor,
            now=self.now,
            values={one.payout_id: self._failure(one) for one in attempts},
        )
        codes: dict[UUID, set[str]] = {}
        for attempt in attempts:
            destination_id = self.payouts[attempt.payout_id].destination_id
            codes.setdefault(destination_id, set()).add(attempt.reason_code)
        apply_to_destinations(
            organization_id=attempts[0].organization_id,
            codes=codes,
            actor=self.actor,
            now=self.now,
        )
        return commands

    def _keep(self, attempts: Sequence[PayoutAttempt]) -> list[Command]:
        """Our fault or the bank's: the capture is undone and held again, and somebody looks."""
        if not attempts:
            return []
        payouts = self._of(attempts)
        commands = self._reject(attempts)
        accounts = _books.accounts_of(payouts, now=self.now)
        for payout in payouts:
            payout.hold_id = new_id()
            payout.fee_hold_id = new_id() if payout.fee_hold_id is not None else None
            commands += _books.reserve(payout, accounts)
        Payout.objects.bulk_update(payouts, ["hold_id", "fee_hold_id"], batch_size=500)
        by_code: dict[str, list[Payout]] = {}
        for attempt, payout in zip(attempts, payouts, strict=True):
            by_code.setdefault(attempt.reason_code, []).append(payout)
        for code, group in by_code.items():
            move_payouts(
                group,
                PayoutState.HELD,
                actor=self.actor,
                now=self.now,
                reason="bank_rejected",
                values={"hold_reasons": ["bank_rejected"], "bank_code": code},
            )
        return commands

    def _reject(self, attempts: Sequence[PayoutAttempt]) -> list[Command]:
        accounts = _books.accounts_of(self._of(attempts), now=self.now)
        shut = _books.closed_to_money(accounts, organization_id=attempts[0].organization_id)
        commands = [
            command
            for attempt in attempts
            for command in _books.uncapture(
                self.payouts[attempt.payout_id],
                attempt,
                accounts,
                to_suspense=self.payouts[attempt.payout_id].customer_id in shut,
                effective_at=self.now,
            )
        ]
        move_attempts(
            attempts,
            AttemptState.REJECTED,
            now=self.now,
            fields=["reversal_entry_id", "bank_status", "reason_code", "reason_text"],
        )
        return commands

    def _failure(self, attempt: PayoutAttempt) -> dict[str, object]:
        # What compliance looks at is not told to the client (risk: no tipping off).
        is_told = self._row(attempt).desk is not Desk.COMPLIANCE
        return {
            "failure_code": "bank_rejected",
            "bank_code": attempt.reason_code if is_told else "",
        }


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
