"""From a frozen batch to the one file that stands for it: released, written, checked, stored."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from apps.accounts import queries as accounts
from apps.approvals import operations as approvals
from apps.approvals import queries as approval_queries
from apps.approvals import registry
from apps.approvals.registry import Act, Resolution
from apps.approvals.rules import Facts, Policy
from apps.banking import operations as banking
from apps.banking import queries as banking_queries
from apps.banking.formats import pain001, pain001_reader
from apps.banking.formats.pain001 import Address, CreditTransfer, PaymentOrder
from apps.core import audit, transactions
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken
from apps.core.ids import encode_id
from apps.core.money import format_minor
from apps.payouts import queries
from apps.payouts.errors import BatchNotReady
from apps.payouts.models import DestinationVersion, PayoutAttempt, PayoutBatch
from apps.payouts.operations._moves import enqueue, move_batch
from apps.payouts.queries import Clear
from apps.payouts.states import BatchState

log = structlog.get_logger("kassa.payouts")

RELEASE_ACT: Final = "payouts.release_batch"


# --- Release ------------------------------------------------------------------------------------


@transactions.outermost
def release_batch(
    *, organization_id: UUID, batch_id: UUID, actor: Actor, now: datetime
) -> PayoutBatch:
    """
    Release a frozen batch for writing, or ask the people whom the policy names; at once if nobody.

    Again on a batch that is released, or waits for people, changes nothing.

    :raises BatchNotFound: if the organization has no such batch
    :raises BatchNotReady: if it was voided
    """
    batch = queries.get_batch_for_update(organization_id=organization_id, batch_id=batch_id)
    if batch.state == BatchState.VOIDED:
        raise BatchNotReady("This batch was voided.", state=batch.state)
    if batch.state != BatchState.FROZEN or _is_asked(batch):
        return batch
    request = approvals.request_approval(
        organization_id=organization_id,
        act=RELEASE_ACT,
        subject_id=batch.id,
        # Who froze it does not release it; a job is nobody's principal.
        requester_principal=batch.frozen_by,
        actor=actor,
        now=now,
    )
    if request is None:
        move_batch(batch, BatchState.RELEASED, actor=actor, now=now)
        enqueue(batch, "export")
    return batch


def _is_asked(batch: PayoutBatch) -> bool:
    open_request = approval_queries.lock_open_request(
        organization_id=batch.organization_id, act=RELEASE_ACT, subject_id=batch.id
    )
    return open_request is not None


# --- Writing ------------------------------------------------------------------------------------


def export_batch(
    *, organization_id: UUID, batch_id: UUID, actor: Actor, now: datetime
) -> PayoutBatch:
    """
    Write a released batch's file, check it against the schema and the rows, and store it once.

    No transaction is open while the file is written. Of two workers one stores; the other, or a
    later run, finds the same bytes. Exporting it again changes nothing.

    :raises BatchNotFound: if the organization has no such batch
    :raises BatchNotReady: if it is not released, or voided
    :raises InvariantBroken: if the written file says anything else than the rows
    :raises CapabilityMissing: if the actor is staff without `payouts.export_batch`
    """
    accounts.require_capability(
        actor=actor, capability="payouts.export_batch", organization_id=organization_id
    )
    batch = queries.get_batch(organization_id=organization_id, batch_id=batch_id)
    if batch.state in {BatchState.FROZEN, BatchState.VOIDED}:
        raise BatchNotReady("This batch is not released.", state=batch.state)
    if batch.state != BatchState.RELEASED:
        return batch
    content = write_file(batch)
    return _store_export(
        organization_id=organization_id, batch_id=batch_id, content=content, actor=actor, now=now
    )


def write_file(batch: PayoutBatch) -> bytes:
    """
    Return the batch's file: a pure function of frozen rows, validated and read back.

    :raises InvariantBroken: if what was written is not what the rows say
    """
    order = _order(batch)
    content = pain001.write(order)
    pain001.validate(content)
    differences = pain001_reader.differences(order, pain001_reader.read_back(content))
    if (len(order.transfers), order.total_minor) != (batch.attempt_count, batch.total_minor):
        differences.append("the batch's own sums differ from its attempts")
    if differences:
        log.error("payout_file_differs", batch_id=str(batch.id), differences=differences)
        msg = f"The file of batch {batch.id} differs from its rows: {differences[0]}."
        raise InvariantBroken(msg)
    return content


def _order(batch: PayoutBatch) -> PaymentOrder:
    account = banking_queries.get_payout_account(
        organization_id=batch.organization_id,
        currency=batch.currency,
        bank_account_id=batch.bank_account_id,
    )
    attempts = queries.list_batch_attempts(organization_id=batch.organization_id, batch_id=batch.id)
    versions = queries.list_versions(
        organization_id=batch.organization_id,
        version_ids={attempt.destination_version_id for attempt in attempts},
    )
    references = queries.creditor_references(
        organization_id=batch.organization_id, batch_id=batch.id
    )
    clear = Clear(batch.organization_id)
    return PaymentOrder(
        message_id=batch.message_id,
        payment_information_id=batch.payment_information_id,
        created_at=batch.frozen_at,
        execution_date=batch.execution_date,
        debtor_name=account.holder_name,
        debtor_iban=account.iban,
        debtor_bic=account.bic,
        debtor_address=account.address,
        is_batch_booked=account.is_batch_booked,
        is_instant=False,
        transfers=[
            _transfer(
                clear,
                attempt,
                versions[attempt.destination_version_id],
                references.get(attempt.payout_id, ""),
            )
            for attempt in attempts
        ],
    )


def _transfer(
    clear: Clear, attempt: PayoutAttempt, version: DestinationVersion, creditor_reference: str
) -> CreditTransfer:
    sent = clear.sent(attempt)
    address = None
    if sent.get("town"):
        address = Address(
            town=sent["town"],
            country=sent["country"],
            street=sent["street"] or None,
            building=sent["building"] or None,
            post_code=sent["post_code"] or None,
            lines=tuple(sent["lines"]),
        )
    return CreditTransfer(
        instruction_id=str(attempt.number_in_file),
        end_to_end_id=attempt.end_to_end_id,
        amount_minor=attempt.amount_minor,
        creditor_name=sent["name"],
        creditor_iban=clear.iban(version),
        creditor_address=address,
        remittance=sent["remittance"] or None,
        creditor_reference=creditor_reference or None,
    )


@transactions.outermost
def _store_export(
    *, organization_id: UUID, batch_id: UUID, content: bytes, actor: Actor, now: datetime
) -> PayoutBatch:
    """
    Store a released batch's written file; once stored, other bytes are never taken for it.

    :raises InvariantBroken: if other bytes are stored already
    """
    # Two workers that wrote the same file: one stores, the other finds it stored.
    batch = queries.get_batch_for_update(organization_id=organization_id, batch_id=batch_id)
    file = banking.store_outgoing_file(
        organization_id=organization_id,
        bank_account_id=batch.bank_account_id,
        kind="pain.001",
        version=pain001.VERSION,
        message_id=batch.message_id,
        content=content,
        actor=actor,
        now=now,
    )
    if batch.file_id is not None and batch.file_id != file.id:
        msg = f"Batch {batch.id} has another file already."
        raise InvariantBroken(msg)
    if batch.state != BatchState.RELEASED:
        return batch
    batch.file_id, batch.file_sha256, batch.exported_at = file.id, bytes(file.sha256), now
    move_batch(
        batch,
        BatchState.EXPORTED,
        actor=actor,
        now=now,
        fields=["file_id", "file_sha256", "exported_at"],
    )
    audit.record(
        "payouts.export_batch", batch, actor=actor, after={"sha256": bytes(file.sha256).hex()}
    )
    enqueue(batch, "send")
    return batch


# --- What approvals asks of us ------------------------------------------------------------------


def register_release_act() -> None:
    """Make the release of a batch an act that people may be asked about; by default nobody is."""
    registry.register(
        Act(
            name=RELEASE_ACT,
            subject_type="payout_batch",
            capability="payouts.release_batch",
            default_policy=Policy(),
            lock=_lock,
            snapshot=_snapshot,
            facts=_facts,
            describe=_describe,
            on_approved=_on_approved,
            on_denied=_on_ended,
            on_expired=_on_ended,
        )
    )


def _lock(organization_id: UUID, batch_id: UUID) -> None:
    queries.get_batch_for_update(organization_id=organization_id, batch_id=batch_id)


def _snapshot(organization_id: UUID, batch_id: UUID) -> dict[str, object]:
    batch = queries.get_batch(organization_id=organization_id, batch_id=batch_id)
    return {
        "organization": encode_id("org", organization_id),
        "batch": encode_id("pb", batch.id),
        "bank_account": encode_id("ba", batch.bank_account_id),
        "message_id": batch.message_id,
        "count": batch.attempt_count,
        "total": batch.total_minor,
        "currency": batch.currency,
        "execution_date": batch.execution_date.isoformat(),
    }


def _facts(organization_id: UUID, batch_id: UUID) -> Facts:
    batch = queries.get_batch(organization_id=organization_id, batch_id=batch_id)
    return Facts(amount_minor=batch.total_minor, currency=batch.currency)


def _describe(organization_id: UUID, batch_ids: Sequence[UUID]) -> dict[UUID, Mapping[str, str]]:
    batches = queries.list_batches(organization_id=organization_id).filter(id__in=batch_ids)
    return {
        batch.id: {
            "title": f"Release {format_minor(batch.total_minor, batch.currency)}",
            "payouts": str(batch.attempt_count),
            "execution date": batch.execution_date.isoformat(),
        }
        for batch in batches
    }


def _on_approved(told: Resolution) -> None:
    batch = queries.get_batch_for_update(
        organization_id=told.organization_id, batch_id=told.subject_id
    )
    if batch.state == BatchState.FROZEN:
        move_batch(batch, BatchState.RELEASED, actor=told.actor, now=told.now)
        enqueue(batch, "export")


def _on_ended(told: Resolution) -> None:
    """Leave the batch frozen: it may be released by another request, or voided."""
    log.info("payout_batch_not_released", batch_id=str(told.subject_id))
