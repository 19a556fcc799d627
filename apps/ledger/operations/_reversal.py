"""Undoing entries by new ones: each once, for ever; a set of them all or none."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id, new_ids
from apps.ledger import errors, queries
from apps.ledger.models import TransferBatch
from apps.ledger.operations import _engine
from apps.ledger.queries import EntryView
from apps.ledger.rules import BalanceAfter, Leg, PostEntry

type ReversalTime = Literal["now", "original"]

# Two transactions may reverse one entry at once; the later one runs again and finds it reversed.
transactions.run_again_on_unique("journal_entry_is_reversed_once")


@dataclass(frozen=True, slots=True)
class ReversalResult:
    """The entries that undid the asked ones, in their order; balances right after, or now."""

    entry_ids: tuple[UUID, ...]
    balances: tuple[BalanceAfter, ...] = ()


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
    :raises ReferenceReused: if the reference stands for an entry that is not this reversal
    :raises InsufficientFunds: if the money was spent meanwhile
    :raises PeriodClosed, LaterBalanceBelowFloor: as `reverse_entries` does, at the original's time
    """
    [entry] = _lock(organization_id, [entry_id])
    known = _standing(organization_id, entry, reference)
    if known is not None:
        return known
    command = _opposite(entry, new_id(), at=at, reference=reference)
    [outcome] = _engine.post(
        organization_id=organization_id, commands=[command], actor=actor, now=now
    )
    if outcome.entry_id is not None and outcome.entry_id != command.id:
        # The opposite legs, but posted as an entry of its own: nothing was reversed.
        raise errors.ReferenceReused(
            "This reference stands for another journal entry.",
            journal_entry=encode_id("je", outcome.entry_id),
        )
    _record(organization_id, entry, command.id, reason=reason, actor=actor)
    return command.id


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

    The set is one act: floors are checked once, by what all of it comes to on each account.
    `original` gives each reversal the business time of its entry, and then every later balance is
    checked. Replaying the key answers the reversals that stand, and balances as they are now.

    :raises JournalEntryNotFound: if the organisation has no such entry
    :raises AlreadyReversed, NotReversible: if one of them cannot be undone; `index` says which
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
        return _replayed(organization_id, claim.resource_id)
    entries = _lock(organization_id, entry_ids)
    commands = _opposites(entries, at)
    outcomes = _engine.run_together(
        organization_id=organization_id,
        entries=commands,
        actor=actor,
        now=now,
        reach_internal=False,
    )
    for entry, command in zip(entries, commands, strict=True):
        _record(organization_id, entry, command.id, reason=reason, actor=actor)
    TransferBatch.objects.create(
        id=claim.resource_id,
        organization_id=organization_id,
        mode="reversal",
        entry_ids=[command.id for command in commands],
        refusals={},
        created_at=now,
    )
    return ReversalResult(
        tuple(command.id for command in commands),
        tuple({after.id: after for o in outcomes for after in o.balances}.values()),
    )


def _replayed(organization_id: UUID, batch_id: UUID) -> ReversalResult:
    batch = TransferBatch.objects.get(organization_id=organization_id, id=batch_id)
    made = [id_ for id_ in batch.entry_ids if id_ is not None]
    touched = queries.accounts_of_entries(organization_id=organization_id, entry_ids=made)
    return ReversalResult(
        tuple(made),
        queries.balances_now(organization_id=organization_id, account_ids=sorted(touched)),
    )


def preview_reversal(
    *,
    organization_id: UUID,
    entry_ids: Sequence[UUID],
    at: ReversalTime,
    now: datetime,
    reach_internal: bool = False,
) -> ReversalResult:
    """
    Return what `reverse_entries` would leave, and write nothing.

    With `reach_internal`, what `reverse_entry` would: no account is out of reach.

    :raises Refusal: as `reverse_entries` does
    """
    found = {id_: queries.get_entry(organization_id=organization_id, entry_id=id_)
             for id_ in entry_ids}  # fmt: skip
    entries = [found[id_] for id_ in entry_ids]
    outcomes = _engine.preview_together(
        organization_id=organization_id,
        entries=_opposites(entries, at),
        now=now,
        reach_internal=reach_internal,
    )
    _engine.raise_first(outcomes)
    return ReversalResult(
        (), tuple({after.id: after for o in outcomes for after in o.balances}.values())
    )


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


def _lock(organization_id: UUID, entry_ids: Sequence[UUID]) -> list[EntryView]:
    """Return the entries, read under the locks of all their accounts."""
    first = [
        queries.get_entry(organization_id=organization_id, entry_id=entry_id)
        for entry_id in entry_ids
    ]
    # Their accounts are locked first, so that of two reversals the later one reads the earlier.
    accounts = {posting.account_id for entry in first for posting in entry.postings}
    queries.lock_balances(organization_id=organization_id, account_ids=accounts)
    return [
        queries.get_entry(organization_id=organization_id, entry_id=entry_id)
        for entry_id in entry_ids
    ]


def _opposites(entries: Sequence[EntryView], at: ReversalTime) -> list[PostEntry]:
    """Return the commands that undo these entries, or raise why one cannot be, with its place."""
    ids = new_ids(len(entries))
    commands = []
    seen: set[UUID] = set()
    for index, (entry, id_) in enumerate(zip(entries, ids, strict=True)):
        try:
            if entry.id in seen:
                raise errors.AlreadyReversed(
                    "The set names this journal entry twice.",
                    journal_entry=encode_id("je", entry.id),
                )
            commands.append(_opposite(entry, id_, at=at, reference=None))
        except Refusal as refusal:
            if len(entries) > 1:
                refusal.details["index"] = index
            raise
        seen.add(entry.id)
    return commands


def refuse_undone(entry: EntryView) -> None:
    """
    Refuse an entry that no reversal is for, whatever stands on its accounts.

    :raises AlreadyReversed: if it was reversed
    :raises NotReversible: if it is a reversal itself
    """
    if entry.reversed_by is not None:
        raise _already(entry.reversed_by)
    if entry.reverses is not None:
        raise errors.NotReversible("A reversal is not reversed: post the entry again.")


def _opposite(entry: EntryView, id_: UUID, *, at: ReversalTime, reference: str | None) -> PostEntry:
    refuse_undone(entry)
    return PostEntry(
        id=id_,
        legs=tuple(Leg(p.account_id, -p.amount_minor, p.currency) for p in entry.postings),
        currency=entry.postings[0].currency,
        kind="reversal",
        reference=reference,
        description=f"Reversal: {entry.description}"[:500] if entry.description else "Reversal",
        effective_at=entry.effective_at if at == "original" else None,
        reverses=entry.id,
    )


def _already(reversal_id: UUID) -> Refusal:
    return errors.AlreadyReversed(
        "This journal entry was reversed.", reversal=encode_id("je", reversal_id)
    )


def _standing(organization_id: UUID, entry: EntryView, reference: str | None) -> UUID | None:
    if reference is None or entry.reversed_by is None:
        return None
    known = queries.find_entries_by_reference(
        organization_id=organization_id, references=[reference]
    )
    found = known.get(reference)
    return found.id if found is not None and found.id == entry.reversed_by else None


def _record(
    organization_id: UUID, entry: EntryView, reversal_id: UUID, *, reason: str, actor: Actor
) -> None:
    audit.record(
        "ledger.reverse_entry",
        ("ledger.journalentry", str(entry.id)),
        organization_id=organization_id,
        actor=actor,
        reason=reason,
        after={"reversal": encode_id("je", reversal_id)},
    )
