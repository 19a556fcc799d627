"""The posting engine's shell: lock, decide, write; one path for one command and for thousands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from apps.core import idempotency, transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal, refusal_classes
from apps.core.ids import new_ids
from apps.ledger import queries, rules
from apps.ledger.errors import LinkedCommandFailed
from apps.ledger.models import TransferBatch
from apps.ledger.operations import _monitors, _writing
from apps.ledger.rules import CaptureHold, Command, Outcome, PostEntry, State

# Two transactions may post under one new reference at once; the later one runs again and finds it.
transactions.run_again_on_unique("journal_entry_reference_is_unique")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRequest:
    """A transfer as a client asks for it: `amount_minor` > 0 from the debited to the credited."""

    debit_account_id: UUID
    credit_account_id: UUID
    amount_minor: int
    currency: str
    reference: str | None = None
    description: str = ""
    effective_at: datetime | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    linked: bool = False


@dataclass(frozen=True, slots=True)
class TransferResult:
    """The journal entry that stands, and the accounts it touched right after it (or now)."""

    entry_id: UUID
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of each transfer of a batch, in order: an entry's id, or a refusal."""

    batch_id: UUID
    entry_ids: tuple[UUID | None, ...]
    refusals: Mapping[int, Refusal]


@transactions.required
def post(
    *, organization_id: UUID, commands: Sequence[Command], actor: Actor, now: datetime
) -> list[Outcome]:
    """
    Apply commands all or none, as part of a larger act; what other apps call.

    A command whose reference stands already, with the same legs, is `replayed`: nothing moves.

    :raises Refusal: the first refused command's own, with its `index`
    """
    return _run(organization_id, commands, actor=actor, now=now, atomic=True, reach_internal=True)


@transactions.outermost
def post_transfer(
    *,
    organization_id: UUID,
    transfer: TransferRequest,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> TransferResult:
    """
    Post one of a client's transfers.

    Replaying the key, or asking again under the same reference, answers the entry that stands.

    :raises InsufficientFunds: if the debited (or credited) account's floor would be broken
    :raises LedgerAccountReserved: if an account is posted to by Kassa's own acts only
    :raises ReferenceReused: if the reference stands for another entry
    """
    parts = _parts(transfer)
    claim = idempotency.claim(organization_id, idempotency_key, "post_transfer", parts, prefix="je")
    if claim.replayed:
        return TransferResult(claim.resource_id, None)
    command = _command(claim.resource_id, transfer)
    [outcome] = _run(
        organization_id, [command], actor=actor, now=now, atomic=True, reach_internal=False
    )
    entry_id = outcome.entry_id or claim.resource_id
    if entry_id != claim.resource_id:
        # Its reference stood for an entry already: from now on the key stands for that one too.
        idempotency.answer_with(organization_id, idempotency_key, entry_id)
    return TransferResult(entry_id, outcome)


@transactions.outermost
def post_transfers(
    *,
    organization_id: UUID,
    transfers: Sequence[TransferRequest],
    mode: Literal["atomic", "independent"],
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> BatchResult:
    """
    Post a batch of a client's transfers, in order; each sees the effect of the ones before it.

    `atomic`: one refusal refuses all and is raised, with the `index` of the first. `independent`:
    each has its own outcome. Replaying the key answers the first outcomes.

    :raises Refusal: in `atomic` mode, the first refused transfer's own
    """
    parts = [_parts(transfer) for transfer in transfers]
    claim = idempotency.claim(
        organization_id, idempotency_key, "post_transfers", mode, parts, prefix="tb"
    )
    if claim.replayed:
        return _stored(organization_id, claim.resource_id)
    ids = new_ids(len(transfers))
    outcomes = _run(
        organization_id,
        [_command(id_, request) for id_, request in zip(ids, transfers, strict=True)],
        actor=actor,
        now=now,
        atomic=mode == "atomic",
        reach_internal=False,
    )
    result = BatchResult(
        batch_id=claim.resource_id,
        entry_ids=tuple(outcome.entry_id for outcome in outcomes),
        refusals={i: o.refusal for i, o in enumerate(outcomes) if o.refusal is not None},
    )
    TransferBatch.objects.create(
        id=claim.resource_id,
        organization_id=organization_id,
        mode=mode,
        entry_ids=list(result.entry_ids),
        refusals={
            str(index): {"code": r.code, "message": r.message, "details": r.details}
            for index, r in result.refusals.items()
        },
        created_at=now,
    )
    return result


def _stored(organization_id: UUID, batch_id: UUID) -> BatchResult:
    row = TransferBatch.objects.get(organization_id=organization_id, id=batch_id)
    kinds = refusal_classes()
    return BatchResult(
        batch_id=row.id,
        entry_ids=tuple(row.entry_ids),
        refusals={
            int(index): kinds[stored["code"]](stored["message"], **stored["details"])
            for index, stored in row.refusals.items()
        },
    )


def _parts(transfer: TransferRequest) -> list[object]:
    """Return what makes two requests the same one."""
    return [
        transfer.debit_account_id,
        transfer.credit_account_id,
        transfer.amount_minor,
        transfer.currency,
        transfer.reference,
        transfer.description,
        transfer.effective_at,
        dict(transfer.metadata),
        transfer.linked,
    ]


def _command(id_: UUID, request: TransferRequest) -> PostEntry:
    return rules.transfer(
        id_=id_,
        debit_account_id=request.debit_account_id,
        credit_account_id=request.credit_account_id,
        amount_minor=request.amount_minor,
        currency=request.currency,
        reference=request.reference,
        description=request.description,
        effective_at=request.effective_at,
        metadata=request.metadata,
        linked=request.linked,
    )


def _run(
    organization_id: UUID,
    commands: Sequence[Command],
    *,
    actor: Actor,
    now: datetime,
    atomic: bool,
    reach_internal: bool,
) -> list[Outcome]:
    state = _lock(organization_id, commands, now=now, reach_internal=reach_internal)
    after, outcomes = rules.apply(state, commands)
    if atomic:
        _raise_first(outcomes)
    _writing.write(
        organization_id=organization_id,
        before=state.balances,
        after=after,
        outcomes=outcomes,
        actor=actor,
        now=now,
    )
    if any(balance.monitored for outcome in outcomes for balance in outcome.balances):
        _monitors.tell_crossings(
            organization_id=organization_id, outcomes=outcomes, actor=actor, now=now
        )
    return outcomes


def _lock(
    organization_id: UUID, commands: Sequence[Command], *, now: datetime, reach_internal: bool
) -> State:
    """Lock holds, then balances, each ascending; then read what stands under the references."""
    accounts, hold_ids = rules.touched(commands)
    holds = {}
    if hold_ids:
        holds = queries.lock_holds(organization_id=organization_id, hold_ids=hold_ids)
    for hold in holds.values():
        accounts |= {hold.debit_account_id, hold.credit_account_id}
    balances = queries.lock_balances(organization_id=organization_id, account_ids=accounts)
    references = [c.reference for c in commands if isinstance(c, PostEntry | CaptureHold)]
    known = queries.find_entries_by_reference(
        organization_id=organization_id, references=[ref for ref in references if ref]
    )
    return State(balances, holds, known, now=now, reach_internal=reach_internal)


def _raise_first(outcomes: Sequence[Outcome]) -> None:
    refused = [(i, o.refusal) for i, o in enumerate(outcomes) if o.refusal is not None]
    # Of a linked chain the guilty command is named, not the ones that fell with it.
    guilty = [found for found in refused if found[1].code != LinkedCommandFailed.code] or refused
    for index, refusal in guilty[:1]:
        if len(outcomes) > 1:
            refusal.details["index"] = index
        raise refusal
