"""What a status report says of our attempts, read before anything is written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from apps.banking.formats.values import PaymentStatus, Reason, StatusReport, TransactionStatus
from apps.payouts import queries
from apps.payouts.models import PayoutBatch

REJECTED: Final = "RJCT"
_NO_REASON: Final = Reason()


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a report says of one attempt."""

    status: str
    reason: Reason

    @property
    def is_rejection(self) -> bool:
        return self.status == REJECTED


def find_batch(organization_id: UUID, report: StatusReport) -> PayoutBatch | None:
    """Return the batch that the report or one of its payment blocks names; None: nobody's."""
    references = [report.original_message_id]
    references += [payment.payment_information_id for payment in report.payments]
    found = queries.find_batches(
        organization_id=organization_id, references=[name for name in references if name]
    )
    for name in references:
        if name and name in found:
            return queries.get_batch(organization_id=organization_id, batch_id=found[name].batch_id)
    return None


def read_report(
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
        return Said(status=REJECTED, reason=first_reason(report.reasons, *_payment_reasons(report)))
    for payment in report.payments:
        if payment.status == REJECTED:
            return Said(status=REJECTED, reason=first_reason(payment.reasons, report.reasons))
    return None


def _payment_reasons(report: StatusReport) -> Iterable[Sequence[Reason]]:
    return (payment.reasons for payment in report.payments)


def _said(transaction: TransactionStatus, payment: PaymentStatus, report: StatusReport) -> Said:
    return Said(
        status=transaction.status or payment.status or report.group_status or "",
        reason=first_reason(transaction.reasons, payment.reasons, report.reasons),
    )


def _merge(said: dict[UUID, Said], id_: UUID, one: Said, *, whole: Said | None) -> None:
    """Keep the strongest word on an attempt; under a rejected whole its own reason is better."""
    known = said.get(id_)
    if whole is not None:
        own = one.reason if one.reason.code else whole.reason
        said[id_] = Said(status=REJECTED, reason=own)
    elif known is None or not known.is_rejection:
        said[id_] = one


def overall(report: StatusReport) -> str:
    """Return the status of the group, or of the first payment block that has one."""
    statuses = [report.group_status, *(payment.status for payment in report.payments)]
    return next((status for status in statuses if status), "")


def first_reason(*lists: Sequence[Reason]) -> Reason:
    """Return the first reason in the order of these lists; an empty one where none has any."""
    return next((reason for reasons in lists for reason in reasons), _NO_REASON)
