"""Undoing entries by new ones, each once, for ever: one, a set of them, an exchange as a whole."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from apps.core import idempotency, transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.ledger import errors, queries
from apps.ledger.operations import _engine, _turns, _undoing
from apps.ledger.operations._fx import of_the_whole
from apps.ledger.operations._undoing import ReversalResult, ReversalTime
from apps.ledger.queries import StandingEntry


@transactions.required
def reverse_entry(
    *,
    organization_id: UUID,
    entry_id: UUID,
    reason: str,
    actor: Actor,
    now: datetime,
    at: ReversalTime = "now",
    reference: str | None = None,
) -> UUID:
    """
    Post the opposite of an entry, and return the new entry's id; what other apps call.

    Floors are checked after all legs are netted, so a pass-through entry over an empty account
    can be undone. With a `reference`, asking again answers the reversal that stands. `original`
    gives it the business time of the entry, as in `reverse_entries`.

    :raises JournalEntryNotFound: if the organisation has no such entry
    :raises AlreadyReversed: if it was reversed, under another reference
    :raises NotReversible: if it is a reversal itself
    :raises PartOfFxTransfer: if it is one of an FX transfer's two
    :raises ReferenceReused: if the reference stands for an entry that is not this reversal
    :raises InsufficientFunds: if the money was spent meanwhile
    :raises PeriodClosed, LaterBalanceBelowFloor: as `reverse_entries` does, at the original's time
    """
    [entry] = _undoing.lock(organization_id, [entry_id])
    known = _standing(organization_id, entry, reference)
    if known is not None:
        return known
    _refuse_parts(organization_id, [entry])
    command = _undoing.opposite(entry, new_id(), at=at, reference=reference)
    [outcome] = _engine.post(
        organization_id=organization_id, commands=[command], actor=actor, now=now
    )
    if outcome.entry_id is not None and outcome.entry_id != command.id:
        # The opposite legs, but posted as an entry of its own: nothing was reversed.
        raise errors.ReferenceReused(
            "This reference stands for another journal entry.",
            journal_entry=encode_id("je", outcome.entry_id),
        )
    _undoing.record(organization_id, [entry], [command.id], reason=reason, actor=actor)
    return command.id


def whole_of(organization_id: UUID, entry_id: UUID) -> list[UUID]:
    """
    Return what is undone with an entry: itself, and the other one if it is of an exchange.

    An other one that was undone alone, as was possible once (ADR 0128), is left out.
    """
    made = queries.fx_transfers_of(organization_id=organization_id, entry_ids=[entry_id])
    others = {id_ for row in made.values() for id_ in (row.sold_entry_id, row.bought_entry_id)}
    others.discard(entry_id)
    undone = queries.reversals_of(organization_id=organization_id, entry_ids=others)
    return [entry_id, *(others - undone.keys())]


@transactions.required
def reverse_whole(
    *,
    organization_id: UUID,
    entry_id: UUID,
    reason: str,
    actor: Actor,
    now: datetime,
    at: ReversalTime,
) -> UUID:
    """
    Post the opposite of an entry, as one act with that of the exchange's other; return its id.

    :raises JournalEntryNotFound: if the organisation has no such entry
    :raises AlreadyReversed: if it was reversed, or the other one was meanwhile
    :raises NotReversible: if it is a reversal itself
    :raises InsufficientFunds, PeriodClosed, LaterBalanceBelowFloor: as `reverse_entries` does
    """
    with of_the_whole():
        reversals, _ = _undoing.undo(
            organization_id,
            _undoing.lock(organization_id, whole_of(organization_id, entry_id)),
            at=at,
            reason=reason,
            actor=actor,
            now=now,
            reach_internal=True,
        )
    return reversals[0]


@_turns.in_turn("entry_ids")
@transactions.outermost
def reverse_entries(
    *,
    organization_id: UUID,
    entry_ids: Sequence[UUID],
    at: ReversalTime,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> ReversalResult:
    """
    Undo a set of a client's entries, all or none; each is undone once, for ever.

    An outermost operation; long sets take turns as long batches do. The set is one act: floors are
    checked once, by what all of it comes to on each account. `original` gives each reversal the
    business time of its entry, and then every later balance is checked. Replaying the key answers
    the reversals that stand, and balances as they are now.

    :raises JournalEntryNotFound: if the organisation has no such entry
    :raises AlreadyReversed, NotReversible: if one of them cannot be undone; `index` says which
    :raises ReversalTooLarge: if they have more postings than the largest batch
    :raises PartOfFxTransfer: if one is of an FX transfer, which `reverse_fx_transfer` undoes
    :raises PeriodClosed: if one's month is closed, and `original` was asked
    :raises InsufficientFunds, LaterBalanceBelowFloor: if the money was spent meanwhile
    :raises LedgerAccountReserved: if one is on an account that only Kassa's own acts post to
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "reverse_entries",
        list(entry_ids),
        at,
        reason,
        prefix="tb",
    )
    if claim.replayed:
        return _undoing.replayed(organization_id, claim.resource_id)
    entries = _undoing.lock(organization_id, entry_ids)
    _refuse_parts(organization_id, entries)
    reversals, outcomes = _undoing.undo(
        organization_id, entries, at=at, reason=reason, actor=actor, now=now, reach_internal=False
    )
    _undoing.keep(organization_id, claim.resource_id, reversals, now=now)
    return _undoing.result(reversals, outcomes)


@transactions.outermost
def reverse_fx_transfer(
    *,
    organization_id: UUID,
    fx_transfer_id: UUID,
    at: ReversalTime,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> ReversalResult:
    """
    Undo an exchange: what was bought goes back, what was sold comes back, at the rate it had.

    Its two entries are undone as one act, the sold one's reversal first, each once for ever; `at`
    and a replay are as in `reverse_entries`.

    :raises FxTransferNotFound: if the organisation has no such FX transfer
    :raises AlreadyReversed: if it was undone
    :raises PeriodClosed: if its month is closed, and `original` was asked
    :raises InsufficientFunds, LaterBalanceBelowFloor: if the bought money was spent meanwhile
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "reverse_fx_transfer",
        fx_transfer_id,
        at,
        reason,
        prefix="tb",
    )
    if claim.replayed:
        return _undoing.replayed(organization_id, claim.resource_id)
    entries = _undoing.lock(organization_id, _both(organization_id, fx_transfer_id))
    with of_the_whole():
        reversals, outcomes = _undoing.undo(
            organization_id, entries, at=at, reason=reason, actor=actor, now=now,
            reach_internal=True,
        )  # fmt: skip
    _undoing.keep(organization_id, claim.resource_id, reversals, now=now)
    return _undoing.result(reversals, outcomes)


@transactions.snapshot()
def preview_fx_reversal(
    *, organization_id: UUID, fx_transfer_id: UUID, at: ReversalTime, now: datetime
) -> ReversalResult:
    """
    Return what `reverse_fx_transfer` would leave, as of one instant, and write nothing.

    :raises Refusal: as `reverse_fx_transfer` does
    """
    return preview_whole(organization_id, _both(organization_id, fx_transfer_id), at=at, now=now)


def _both(organization_id: UUID, fx_transfer_id: UUID) -> list[UUID]:
    row = queries.get_fx_transfer(organization_id=organization_id, fx_transfer_id=fx_transfer_id)
    return [row.sold_entry_id, row.bought_entry_id]


@transactions.snapshot()
def preview_reversal(
    *,
    organization_id: UUID,
    entry_ids: Sequence[UUID],
    at: ReversalTime,
    now: datetime,
) -> ReversalResult:
    """
    Return what `reverse_entries` would leave, as of one instant, and write nothing.

    :raises Refusal: as `reverse_entries` does
    """
    entries = _undoing.read(organization_id, entry_ids)
    _refuse_parts(organization_id, entries)
    return _undoing.preview(organization_id, entries, at=at, now=now, reach_internal=False)


@transactions.snapshot()
def preview_whole(
    organization_id: UUID, entry_ids: Sequence[UUID], *, at: ReversalTime, now: datetime
) -> ReversalResult:
    """Return what `reverse_whole` would leave of these entries, and write nothing."""
    entries = _undoing.read(organization_id, entry_ids)
    with of_the_whole():
        return _undoing.preview(organization_id, entries, at=at, now=now, reach_internal=True)


@transactions.snapshot()
def can_reverse(
    *, organization_id: UUID, entry_id: UUID, at: ReversalTime, now: datetime
) -> Refusal | None:
    """
    Say whether a client's entry can be undone now: None, or the refusal that it would meet.

    :raises JournalEntryNotFound: if the organisation has no such entry
    """
    queries.get_entry(organization_id=organization_id, entry_id=entry_id)
    try:
        preview_reversal(organization_id=organization_id, entry_ids=[entry_id], at=at, now=now)
    except Refusal as refusal:
        return refusal
    return None


def _refuse_parts(organization_id: UUID, entries: Sequence[StandingEntry]) -> None:
    """
    Refuse to undo one of an exchange's two entries for itself: the client would have both.

    :raises PartOfFxTransfer: the first of them; `index` says which, where there are several
    """
    made = queries.fx_transfers_of(
        organization_id=organization_id, entry_ids=[entry.id for entry in entries]
    )
    for index, entry in enumerate(entries):
        if entry.id in made and entry.reversed_by is None:
            place = {"index": index} if len(entries) > 1 else {}
            raise errors.PartOfFxTransfer(
                "This journal entry is one of an FX transfer's two: undo the FX transfer.",
                fx_transfer=encode_id("fx", made[entry.id].id),
                **place,
            )


def _standing(organization_id: UUID, entry: StandingEntry, reference: str | None) -> UUID | None:
    if reference is None or entry.reversed_by is None:
        return None
    known = queries.find_entries_by_reference(
        organization_id=organization_id, references=[reference]
    )
    found = known.get(reference)
    return found.id if found is not None and found.id == entry.reversed_by else None
