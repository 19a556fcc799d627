"""A client's own transfers: one, many in one request, and what they would do."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from apps.core import idempotency, statements, transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import new_ids
from apps.ledger import queries
from apps.ledger.operations import _engine, _forced, _grouping, _plain_batch, _turns
from apps.ledger.operations._origin import Origin
from apps.ledger.operations._tickets import Ticket
from apps.ledger.queries import BatchResult
from apps.ledger.rules import TRANSFER_KIND, BalanceAfter, Outcome, Transfer


@dataclass(slots=True, kw_only=True)
class TransferRequest:
    """
    A transfer as a client asks for it: `amount_minor` > 0 from the debited to the credited.

    `up_to` moves as much of it as the floors allow. `force` lets a back-dated one take a balance of
    the past below its floor, and is audited; from now on the floor holds all the same.
    """

    debit_account_id: UUID
    credit_account_id: UUID
    amount_minor: int
    currency: str
    reference: str | None = None
    description: str = ""
    effective_at: datetime | None = None
    metadata: Mapping[str, object] | None = None
    up_to: bool = False
    force: bool = False
    linked: bool = False


@dataclass(frozen=True, slots=True)
class TransferResult:
    """
    The journal entry that stands, and what became of the command, unless it is a replay.

    `recorded_at` is when Postgres recorded what was posted just now.
    """

    entry_id: UUID
    outcome: Outcome | None
    recorded_at: datetime | None


def post_transfer(
    *,
    organization_id: UUID,
    transfer: TransferRequest,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> TransferResult:
    """
    Post one of a client's transfers, together with those that others ask for meanwhile.

    An outermost operation: see `_grouping`. Replaying the key, or asking again under the same
    reference, answers the entry that stands.

    :raises InsufficientFunds: if the debited (or credited) account's floor would be broken
    :raises LaterBalanceBelowFloor: if the floor would be broken at its time, or by a later balance
    :raises PeriodClosed: if its month is closed
    :raises LedgerAccountReserved: if an account is posted to by Kassa's own acts only
    :raises ReferenceReused: if the reference stands for another entry
    """
    asked = ask_transfer(transfer=transfer, idempotency_key=idempotency_key, actor=actor, now=now)
    post_asked(organization_id=organization_id, asked=[asked])
    return take_result(asked)


def ask_transfer(
    *, transfer: TransferRequest, idempotency_key: str, actor: Actor, now: datetime
) -> Ticket:
    """
    Return what `post_asked` takes, made in the context of the request that asks for it.

    Many requests of one organisation may be asked for, posted by one call, and each told its own
    result by `take_result` in its own context again: as `post_transfer` would have done with each.
    """
    asked = idempotency.asked(idempotency_key, "post_transfer", _parts(transfer), prefix="je")
    return Ticket(asked, _command(asked.resource_id, transfer), actor, now)


def post_plain(asked: Sequence[tuple[UUID, Ticket]]) -> None:
    """
    Post what needs no deciding of the transfers of several organizations, each the only one of its.

    Each is a transaction of its own. `post_asked` has the others, and leaves what this has done.
    """
    _grouping.post_alone(asked)


def post_asked(*, organization_id: UUID, asked: Sequence[Ticket]) -> None:
    """
    Post the transfers of several requests of one organisation. An outermost operation.

    What `post_plain` has posted, or could not begin, is left as it is.
    """
    left = [ticket for ticket in asked if not ticket.is_answered]
    if left:
        _grouping.submit(organization_id, left)


def take_result(asked: Ticket) -> TransferResult:
    """
    Return what became of one of them.

    :raises Refusal: as `post_transfer` does, if it was refused
    """
    answer = asked.taken()
    if answer.refusal is not None:
        raise answer.refusal
    return TransferResult(answer.entry_id, answer.outcome, asked.recorded_at)


def preview_transfers(
    *,
    organization_id: UUID,
    transfers: Sequence[TransferRequest],
    mode: Literal["atomic", "independent"],
    now: datetime,
) -> list[Outcome]:
    """
    Return what these transfers would do, by the same path, and write nothing at all.

    :raises Refusal: in `atomic` mode, the first refused transfer's own
    """
    ids = new_ids(len(transfers))
    _, outcomes = _engine.preview(
        organization_id=organization_id,
        commands=[_command(id_, request) for id_, request in zip(ids, transfers, strict=True)],
        now=now,
    )
    if mode == "atomic":
        _engine.raise_first(outcomes)
    return outcomes


def preview_batch(
    *,
    organization_id: UUID,
    transfers: Sequence[TransferRequest],
    mode: Literal["atomic", "independent"],
    now: datetime,
) -> BatchResult:
    """
    Return what `post_transfers` would answer, and write nothing; entries that it would make have
    no id.

    :raises Refusal: in `atomic` mode, the first refused transfer's own
    """
    with _of_a_batch():
        outcomes = preview_transfers(
            organization_id=organization_id, transfers=transfers, mode=mode, now=now
        )
    # What would be made by one of them, another one's reference may stand for.
    unmade = {o.entry_id for o in outcomes if o.status == "posted"}
    entry_ids = [None if o.entry_id in unmade else o.entry_id for o in outcomes]
    return _batch_result(organization_id, _NOBODY, entry_ids, outcomes, created_at=None)


@_turns.in_turn("transfers")
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

    An outermost operation; long ones of an organisation take turns in a process. `atomic`: one
    refusal refuses all and is raised, with the `index` of the first. `independent`: each has its
    own outcome. Replaying the key answers the first outcomes.

    :raises Refusal: in `atomic` mode, the first refused transfer's own
    """
    parts = [_parts(transfer) for transfer in transfers]
    claim = idempotency.claim(
        organization_id, idempotency_key, "post_transfers", mode, parts, prefix="tb"
    )
    if claim.replayed:
        return queries.get_transfer_batch(
            organization_id=organization_id, batch_id=claim.resource_id
        )
    ids = new_ids(len(transfers))
    commands = [_command(id_, request) for id_, request in zip(ids, transfers, strict=True)]
    result = _post_batch(
        organization_id,
        claim.resource_id,
        commands,
        actor=actor,
        is_atomic=mode == "atomic",
        now=now,
    )
    _keep(organization_id, result, mode=mode)
    return result


def _post_batch(
    organization_id: UUID,
    batch_id: UUID,
    commands: Sequence[Transfer],
    *,
    actor: Actor,
    is_atomic: bool,
    now: datetime,
) -> BatchResult:
    origin = Origin.of(actor)
    balances, locked = _plain_batch.post(
        organization_id=organization_id, commands=commands, origin=origin, now=now
    )
    if balances is not None:
        return BatchResult(
            batch_id=batch_id,
            entry_ids=tuple([command.id for command in commands]),
            refusals={},
            amounts=tuple([command.amount_minor for command in commands]),
            balances=balances,
            created_at=now,
        )
    with _of_a_batch():
        outcomes, _ = _engine.run(
            organization_id=organization_id,
            commands=commands,
            origins=[origin],
            now=now,
            atomic=is_atomic,
            reach_internal=False,
            locked=locked,
        )
    _forced.record_forced(organization_id, [(outcome, actor, None) for outcome in outcomes])
    entry_ids = [outcome.entry_id for outcome in outcomes]
    return _batch_result(organization_id, batch_id, entry_ids, outcomes, created_at=now)


# Not through the ORM: it goes out with the events and COMMIT, and thousands of ids are in binary.
_KEEP: Final = """
    INSERT INTO ledger_transfer_batch (id, organization_id, mode, entry_ids, refusals, created_at)
    VALUES (%(id)s, %(org)s, %(mode)s, %(entries)s, %(refusals)s::jsonb, %(created_at)s)
"""


def _keep(organization_id: UUID, result: BatchResult, *, mode: str) -> None:
    """Keep what a batch was answered."""
    refusals = {
        str(index): {"code": r.code, "message": r.message, "details": r.details}
        for index, r in result.refusals.items()
    }
    statements.send(
        _KEEP,
        {
            "id": result.batch_id,
            "org": organization_id,
            "mode": mode,
            "entries": statements.uuids(result.entry_ids),
            "refusals": json.dumps(refusals),
            "created_at": result.created_at,
        },
    )


@contextmanager
def _of_a_batch() -> Iterator[None]:
    """Give the place of what is refused in a batch of one too, as in any other."""
    try:
        yield
    except Refusal as refusal:
        refusal.details.setdefault("index", 0)
        raise


def _batch_result(
    organization_id: UUID,
    batch_id: UUID,
    entry_ids: Sequence[UUID | None],
    outcomes: Sequence[Outcome],
    *,
    created_at: datetime | None,
) -> BatchResult:
    # Of an `up_to` the posted amount is the answer.
    amounts = tuple([o.lines[0][1] if o.lines else None for o in outcomes])
    balances = _last_balances(outcomes)
    if any(outcome.status == "replayed" for outcome in outcomes):
        amounts, more = _asked_again(organization_id, outcomes, but={b.id for b in balances})
        balances += more
    return BatchResult(
        batch_id=batch_id,
        entry_ids=tuple(entry_ids),
        refusals={i: o.refusal for i, o in enumerate(outcomes) if o.refusal is not None},
        amounts=amounts,
        balances=balances,
        created_at=created_at,
    )


def _asked_again(
    organization_id: UUID, outcomes: Sequence[Outcome], *, but: Collection[UUID]
) -> tuple[tuple[int | None, ...], tuple[BalanceAfter, ...]]:
    """Return all amounts, and the accounts, but for some, of what stood under its reference."""
    amounts = {o.entry_id: o.lines[0][1] for o in outcomes if o.entry_id and o.lines}
    known = {o.entry_id for o in outcomes if o.entry_id and o.status == "replayed"}
    before = list(known - amounts.keys())
    amounts.update(queries.entry_amounts(organization_id=organization_id, entry_ids=before))
    return (
        tuple([amounts.get(o.entry_id) if o.entry_id else None for o in outcomes]),
        queries.standing_after(organization_id=organization_id, entry_ids=before, but=but),
    )


def _last_balances(outcomes: Sequence[Outcome]) -> tuple[BalanceAfter, ...]:
    """Return each account that the batch posted to, as it was after its last posting."""
    last = {line[0].int: line for outcome in outcomes for line in outcome.lines}
    return tuple(BalanceAfter(line[0], line[3], line[4], line[5]) for line in last.values())


def _parts(transfer: TransferRequest) -> list[object]:
    """Return what makes two requests the same one."""
    parts = [
        transfer.debit_account_id,
        transfer.credit_account_id,
        transfer.amount_minor,
        transfer.currency,
        transfer.reference,
        transfer.description,
        transfer.effective_at,
        transfer.metadata or {},
        transfer.linked,
    ]
    # Left out where they are not asked for: keys of requests that knew neither still fit.
    return [*parts, transfer.up_to, transfer.force] if transfer.up_to or transfer.force else parts


def _command(id_: UUID, request: TransferRequest) -> Transfer:
    # In their order: by name it takes twice as long, for each of thousands.
    return Transfer(
        id_, request.debit_account_id, request.credit_account_id, request.amount_minor,
        request.currency, TRANSFER_KIND, request.reference, request.description,
        request.effective_at, request.metadata, request.up_to, request.force, request.linked,
    )  # fmt: skip


_NOBODY: Final = UUID(int=0)
