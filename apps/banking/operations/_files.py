"""Files as bytes: taken in once, stored before they leave."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final
from uuid import UUID

from apps.banking import errors, queries
from apps.banking.models import BankConnection, BankFile, BankFileWork
from apps.banking.operations._polling import expect_answers
from apps.banking.states import Direction, FileState
from apps.core import audit, context, encryption, idempotency, transactions, work
from apps.core.actors import Actor
from apps.core.ids import new_id

FILES_KIND: Final = "banking.files"
NAME_MAX: Final = 200


@transactions.outermost
def receive_bank_file(
    *,
    organization_id: UUID,
    content: bytes,
    name: str,
    bank_account_id: UUID | None = None,
    connection_id: UUID | None = None,
    idempotency_key: str | None = None,
    actor: Actor,
    now: datetime,
) -> BankFile:
    """
    Store a file's bytes; a worker reads it, and its state says what came of it.

    The same bytes again are the first file, whatever became of it: nothing changes, with the same
    key or another. With `bank_account_id`, a file with a statement of another account is refused.

    :raises BankAccountNotFound: if the organization has no such account
    """
    digest = sha256(content).digest()
    claim = None
    if idempotency_key is not None:
        parts = (digest, bank_account_id)
        claim = idempotency.claim(
            organization_id, idempotency_key, "receive_bank_file", *parts, prefix="bf"
        )
    file = queries.find_file_by_hash(
        organization_id=organization_id, direction=Direction.IN, sha256=digest
    )
    if file is None:
        if bank_account_id is not None:
            queries.get_bank_account(
                organization_id=organization_id, bank_account_id=bank_account_id
            )
        made = _row(organization_id, content, name=name, digest=digest, actor=actor, now=now)
        made.bank_account_id, made.connection_id = bank_account_id, connection_id
        file = _take_in(made, actor=actor)
    if claim is not None and not claim.replayed:
        # Whoever brought them, of these bytes there is one file.
        idempotency.answer_with(organization_id, str(idempotency_key), file.id)
    return file


def _take_in(file: BankFile, *, actor: Actor) -> BankFile:
    """Store a file for a worker to read; return the one that is stored of its bytes."""
    file.direction, file.state = Direction.IN, FileState.RECEIVED
    # Two callers may bring one file at once: the first insert wins and both read it back.
    BankFile.objects.bulk_create([file], ignore_conflicts=True)
    stored = queries.find_file_by_hash(
        organization_id=file.organization_id, direction=Direction.IN, sha256=bytes(file.sha256)
    )
    assert stored is not None  # noqa: S101  (one of the two inserts stands)
    if stored.id == file.id:
        BankFileWork.objects.create(
            id=new_id(),
            organization_id=file.organization_id,
            bank_file_id=file.id,
            traceparent=context.current().traceparent,
        )
        audit.record("banking.receive_bank_file", stored, actor=actor, after={"name": file.name})
        work.nudge(FILES_KIND)
    return stored


@transactions.required
def store_outgoing_file(
    *,
    organization_id: UUID,
    bank_account_id: UUID,
    kind: str,
    version: str,
    message_id: str,
    content: bytes,
    actor: Actor,
    now: datetime,
) -> BankFile:
    """
    Store a file of ours before it leaves; the same message id with the same bytes is the first one.

    :raises FileMessageIdReused: if other bytes were stored under the message id
    """
    file = _row(
        organization_id,
        content,
        name=f"{message_id}.xml",
        digest=sha256(content).digest(),
        actor=actor,
        now=now,
    )
    file.kind, file.version, file.message_id = kind, version, message_id
    file.bank_account_id = bank_account_id
    file.direction, file.state, file.done_at = Direction.OUT, FileState.STORED, now
    # Two writers of one batch make the same bytes: the first insert wins, the other finds it.
    BankFile.objects.bulk_create([file], ignore_conflicts=True)
    stored = queries.find_outgoing_file(organization_id=organization_id, message_id=message_id)
    if stored is None or bytes(stored.sha256) != file.sha256:
        raise errors.FileMessageIdReused("Another file was stored under this message id.")
    if stored.id == file.id:
        expect_answers(
            queries.get_bank_account(
                organization_id=organization_id, bank_account_id=bank_account_id
            )
        )
        audit.record("banking.store_outgoing_file", stored, actor=actor, after={"kind": kind})
    return stored


def _row(
    organization_id: UUID, content: bytes, *, name: str, digest: bytes, actor: Actor, now: datetime
) -> BankFile:
    file_id = new_id()
    return BankFile(
        id=file_id,
        organization_id=organization_id,
        name=name[:NAME_MAX],
        sha256=digest,
        byte_count=len(content),
        content_sealed=encryption.seal(
            organization_id, queries.CONTENT_COLUMN, file_id, queries.pack(content)
        ),
        received_by=str(actor),
        received_principal=actor.principal,
        created_at=now,
    )


@transactions.required
def reopen_files(*, organization_id: UUID, bank_file_ids: Sequence[UUID]) -> None:
    """Have these files read again: an account they wait for is there now."""
    if not bank_file_ids:
        return
    work.mark_all_released(
        BankFileWork.objects.filter(organization_id=organization_id, bank_file_id__in=bank_file_ids)
    )
    work.nudge(FILES_KIND)


@transactions.outermost
def advance_connection(*, organization_id: UUID, connection_id: UUID, up_to: int) -> None:
    """Remember the last file taken over from the bank; it never goes back."""
    BankConnection.objects.filter(
        organization_id=organization_id, id=connection_id, fetched_up_to__lt=up_to
    ).update(fetched_up_to=up_to)
