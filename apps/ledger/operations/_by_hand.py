"""
Corrections by hand: an entry undone, or posted, as one person asked and another agreed (ADR 0072).

Of the accounts that only Kassa's own acts post to they reach income, expense and equity. What else
those hold stands for a fact elsewhere, such as a bank's line or a payout on its way, and whatever
made the entry has an act of its own that takes it back.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.core import audit, transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.ledger import errors, queries, rules
from apps.ledger.operations import _engine
from apps.ledger.operations._entries import EntryRequest
from apps.ledger.operations._reversal import preview_whole, reverse_whole, whole_of
from apps.ledger.operations._undoing import ReversalResult, ReversalTime, refuse_undone
from apps.ledger.queries import EntryView, WholeView
from apps.ledger.rules import Outcome, PostEntry

ADJUSTMENT: Final = "adjustment"


def refuse_one_person(requested_by: str, approved_by: str) -> None:
    """
    Refuse what takes two people, if both are one.

    :raises TwoPeopleNeeded: if they are
    """
    if requested_by == approved_by:
        raise errors.TwoPeopleNeeded("What one asked for, another agrees to.")


# --- An entry undone ----------------------------------------------------------------------------


def prepare_reversal(*, organization_id: UUID, entry_id: UUID) -> list[EntryView]:
    """
    Return what is undone with an entry by hand, whether or not the money is still there.

    That is the entry; of an exchange the other one too, second, unless it was undone alone.

    :raises JournalEntryNotFound: if the organisation has no such entry
    :raises AlreadyReversed: if it was reversed
    :raises NotReversible: if it is a reversal itself
    :raises LedgerAccountReserved: if it is on an account that no correction by hand reaches
    """
    entries = [
        queries.get_entry(organization_id=organization_id, entry_id=id_)
        for id_ in whole_of(organization_id, entry_id)
    ]
    for entry in entries:
        refuse_undone(entry)
        _refuse_out_of_reach(organization_id, {posting.account_id for posting in entry.postings})
    return entries


def why_not_reversed(whole: WholeView) -> Refusal | None:
    """Return what `prepare_reversal` would refuse an entry with that was read, or None."""
    try:
        refuse_undone(whole.entry)
    except Refusal as refusal:
        return refusal
    return why_out_of_reach(whole.out_of_reach)


@transactions.required
def reverse_by_hand(
    *,
    organization_id: UUID,
    entry_id: UUID,
    at: ReversalTime,
    requested_by: str,
    approved_by: str,
    reason: str,
    actor: Actor,
    now: datetime,
) -> UUID:
    """
    Post the opposite of an entry as two people want it, and return the new entry's id.

    An exchange is undone as a whole, whichever of its entries is named.

    :raises TwoPeopleNeeded: if both are one person
    :raises Refusal: as `prepare_reversal` and `reverse_whole`
    """
    refuse_one_person(requested_by, approved_by)
    prepare_reversal(organization_id=organization_id, entry_id=entry_id)
    return reverse_whole(
        organization_id=organization_id,
        entry_id=entry_id,
        at=at,
        reason=reason,
        actor=actor,
        now=now,
    )


@transactions.snapshot()
def preview_reversal_by_hand(
    *, organization_id: UUID, entry_id: UUID, at: ReversalTime, now: datetime
) -> ReversalResult:
    """
    Return what `reverse_by_hand` would leave, as of one instant, and write nothing.

    :raises Refusal: the one that it would be refused with
    """
    entries = prepare_reversal(organization_id=organization_id, entry_id=entry_id)
    return preview_whole(organization_id, [entry.id for entry in entries], at=at, now=now)


# --- An entry posted ----------------------------------------------------------------------------


def prepare_adjustment(*, organization_id: UUID, entry: EntryRequest) -> None:
    """
    Refuse an entry that may not be posted by hand, whatever stands on its accounts.

    :raises EntryNotBalanced: if the legs do not sum to zero in each currency
    :raises LedgerAccountReserved: if it is on an account that no correction by hand reaches
    """
    rules.check_balanced(entry.legs)
    _refuse_out_of_reach(organization_id, {leg.account_id for leg in entry.legs})


def why_out_of_reach(accounts: Iterable[tuple[UUID, str]]) -> Refusal | None:
    """Return what a correction is refused with for the first of these accounts; None for none."""
    for account_id, code in accounts:
        return errors.LedgerAccountReserved(
            f"What stands on {code} is moved by Kassa's own acts only.",
            ledger_account=encode_id("la", account_id),
        )
    return None


@transactions.required
def adjust(
    *,
    organization_id: UUID,
    entry: EntryRequest,
    requested_by: str,
    approved_by: str,
    reason: str,
    actor: Actor,
    now: datetime,
) -> UUID:
    """
    Post an entry as two people want it, of the kind `adjustment`, and return its id.

    :raises TwoPeopleNeeded: if both are one person
    :raises ReferenceReused: if the reference stands for an entry already, be it the same
    :raises Refusal: as `prepare_adjustment` and `post`
    """
    refuse_one_person(requested_by, approved_by)
    prepare_adjustment(organization_id=organization_id, entry=entry)
    command = _adjustment(entry)
    [outcome] = _engine.post(
        organization_id=organization_id, commands=[command], actor=actor, now=now
    )
    _refuse_standing(outcome)
    audit.record(
        "ledger.adjust",
        ("ledger.journalentry", str(command.id)),
        organization_id=organization_id,
        actor=actor,
        reason=reason,
    )
    return command.id


@transactions.snapshot()
def preview_adjustment(*, organization_id: UUID, entry: EntryRequest, now: datetime) -> Outcome:
    """
    Return what `adjust` would do, by the same path and as of one instant, and write nothing.

    :raises Refusal: the one that it would be refused with
    """
    prepare_adjustment(organization_id=organization_id, entry=entry)
    _, outcomes = _engine.preview(
        organization_id=organization_id,
        commands=[_adjustment(entry)],
        now=now,
        reach_internal=True,
    )
    _engine.raise_first(outcomes)
    _refuse_standing(outcomes[0])
    return outcomes[0]


def _refuse_standing(outcome: Outcome) -> None:
    # Two people agreed that something moves; to be told that it had moved is no answer.
    if outcome.status == "replayed" and outcome.entry_id is not None:
        raise errors.ReferenceReused(
            "This reference stands for another journal entry.",
            journal_entry=encode_id("je", outcome.entry_id),
        )


def _adjustment(entry: EntryRequest) -> PostEntry:
    return PostEntry(
        id=new_id(),
        legs=entry.legs,
        currency=entry.legs[0].currency,
        kind=ADJUSTMENT,
        reference=entry.reference,
        description=entry.description,
        effective_at=entry.effective_at,
        metadata=entry.metadata,
    )


def _refuse_out_of_reach(organization_id: UUID, account_ids: Iterable[UUID]) -> None:
    found = queries.accounts_of_facts(organization_id=organization_id, account_ids=account_ids)
    refusal = why_out_of_reach((account.id, account.code) for account in found)
    if refusal is not None:
        raise refusal
