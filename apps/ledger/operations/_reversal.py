"""Undoing an entry by a new one: once, for ever."""

from datetime import datetime
from uuid import UUID

from apps.core import audit, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.ledger import errors, queries
from apps.ledger.operations._engine import post
from apps.ledger.queries import EntryView
from apps.ledger.rules import Leg, PostEntry


@transactions.required
def reverse_entry(
    *,
    organization_id: UUID,
    entry_id: UUID,
    reason: str,
    actor: Actor,
    now: datetime,
    reference: str | None = None,
) -> UUID:
    """
    Post the opposite of an entry, and return the new entry's id.

    Floors are checked after all legs are netted, so a pass-through entry over an empty account
    can be undone. With a `reference`, asking again answers the reversal that stands.

    :raises JournalEntryNotFound: if the organisation has no such entry
    :raises AlreadyReversed: if it was reversed, under another reference
    :raises NotReversible: if it is a reversal itself
    :raises ReferenceReused: if the reference stands for an entry that is not this reversal
    :raises InsufficientFunds: if the money was spent meanwhile
    """
    entry = queries.get_entry(organization_id=organization_id, entry_id=entry_id)
    # Its accounts are locked first, so that of two reversals the later one reads the earlier.
    accounts = {posting.account_id for posting in entry.postings}
    queries.lock_balances(organization_id=organization_id, account_ids=accounts)
    entry = queries.get_entry(organization_id=organization_id, entry_id=entry_id)
    known = _standing(organization_id, entry, reference)
    if known is not None:
        return known
    _check_reversible(entry)
    command = PostEntry(
        id=new_id(),
        legs=tuple(Leg(p.account_id, -p.amount_minor, p.currency) for p in entry.postings),
        currency=entry.postings[0].currency,
        kind="reversal",
        reference=reference,
        description=f"Reversal: {entry.description}"[:500] if entry.description else "Reversal",
        reverses=entry.id,
    )
    [outcome] = post(organization_id=organization_id, commands=[command], actor=actor, now=now)
    if outcome.entry_id is not None and outcome.entry_id != command.id:
        # The opposite legs, but posted as an entry of its own: nothing was reversed.
        raise errors.ReferenceReused(
            "This reference stands for another journal entry.",
            journal_entry=encode_id("je", outcome.entry_id),
        )
    audit.record(
        "ledger.reverse_entry",
        ("ledger.journalentry", str(entry.id)),
        organization_id=organization_id,
        actor=actor,
        reason=reason,
        after={"reversal": encode_id("je", command.id)},
    )
    return command.id


def _standing(organization_id: UUID, entry: EntryView, reference: str | None) -> UUID | None:
    if reference is None or entry.reversed_by is None:
        return None
    known = queries.find_entries_by_reference(
        organization_id=organization_id, references=[reference]
    )
    found = known.get(reference)
    return found.id if found is not None and found.id == entry.reversed_by else None


def _check_reversible(entry: EntryView) -> None:
    if entry.reversed_by is not None:
        raise errors.AlreadyReversed(
            "This journal entry was reversed.", reversal=encode_id("je", entry.reversed_by)
        )
    if entry.reverses is not None:
        raise errors.NotReversible("A reversal is not reversed: post the entry again.")
