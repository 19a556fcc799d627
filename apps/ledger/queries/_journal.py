"""Entries with their postings, and an account's lines."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Case, OuterRef, QuerySet, Subquery, When
from django.db.models.functions import JSONObject

from apps.ledger import errors
from apps.ledger.models import EntryMetadata, HoldEvent, JournalEntry, LedgerAccount, Posting
from apps.ledger.rules import TRANSFER_KIND, Leg


@dataclass(frozen=True, slots=True)
class PostingView:
    """One posting with the code of its account."""

    account_id: UUID
    code: str
    amount_minor: int
    currency: str
    account_version: int
    balance_after_minor: int


@dataclass(frozen=True, slots=True)
class EntryView:
    """
    A journal entry with its postings in their order, and its metadata as it is now.

    `annotations` is how often that was given anew; 0 says that it is what was posted. `hold` is
    what it captured, or part of, if it did.
    """

    id: UUID
    kind: str
    reference: str | None
    description: str
    effective_at: datetime
    recorded_at: datetime
    reverses: UUID | None
    reversed_by: UUID | None
    hold: UUID | None
    actor: str
    metadata: Mapping[str, object]
    annotations: int
    postings: tuple[PostingView, ...]


def get_entry(*, organization_id: UUID, entry_id: UUID) -> EntryView:
    """
    Return one journal entry.

    :raises JournalEntryNotFound: if the organisation has no such entry
    """
    found = view_entries(
        organization_id=organization_id,
        entries=JournalEntry.objects.filter(organization_id=organization_id, id=entry_id),
    )
    if not found:
        raise errors.JournalEntryNotFound("There is no such journal entry.")
    return found[0]


@dataclass(frozen=True, slots=True)
class StandingEntry:
    """What undoing a journal entry needs to know of it; its legs are in their order."""

    id: UUID
    description: str
    effective_at: datetime
    reverses: UUID | None
    reversed_by: UUID | None
    legs: tuple[Leg, ...]


def get_standing_entries(
    *, organization_id: UUID, entry_ids: Sequence[UUID], legs: Mapping[UUID, Sequence[Leg]]
) -> list[StandingEntry]:
    """
    Return these journal entries in the order in which they are named, with their `list_legs`.

    Of thousands, as a batch posts them: so without what is only shown of an entry. Legs never
    change, so who locks their accounts first reads again only what may have: what undid them.

    :raises JournalEntryNotFound: if the organisation lacks one of them
    """
    mine = JournalEntry.objects.filter(organization_id=organization_id)
    undone = Subquery(mine.filter(reverses_id=OuterRef("id")).values("id")[:1])
    rows = mine.filter(id__in=entry_ids).annotate(undone_by=undone)
    found = {
        id_: StandingEntry(id_, description, effective_at, reverses, undone_by, tuple(legs[id_]))
        for id_, description, effective_at, reverses, undone_by in rows.values_list(
            "id", "description", "effective_at", "reverses_id", "undone_by"
        )
        # Posted since its legs were asked for, it was not there. Of one that has none, which only
        # SQL can write, an invariant tells; there is nothing in it to undo.
        if id_ in legs
    }
    if not found.keys() >= set(entry_ids):
        raise errors.JournalEntryNotFound("There is no such journal entry.")
    return [found[id_] for id_ in entry_ids]


def list_legs(
    *, organization_id: UUID, entry_ids: Sequence[UUID], limit: int
) -> dict[UUID, list[Leg]]:
    """Return the legs of those of these entries that there are, in their order; `limit` at most."""
    rows = Posting.objects.filter(organization_id=organization_id, entry_id__in=entry_ids)
    columns = rows.values_list("entry_id", "account_id", "amount_minor", "currency")
    legs: dict[UUID, list[Leg]] = {}
    for entry_id, account_id, amount, currency in columns.order_by("entry_id", "number")[:limit]:
        legs.setdefault(entry_id, []).append(Leg(account_id, amount, currency))
    return legs


def get_transfer(*, organization_id: UUID, entry_id: UUID) -> EntryView:
    """
    Return a journal entry that a transfer made: the debited account's posting, then the other.

    :raises TransferNotFound: if the organisation has no such entry, or something else made it
    """
    entries = JournalEntry.objects.filter(
        organization_id=organization_id, id=entry_id, kind=TRANSFER_KIND
    )
    for entry in view_entries(organization_id=organization_id, entries=entries):
        return entry
    raise errors.TransferNotFound("There is no such transfer.")


def view_entries(*, organization_id: UUID, entries: Iterable[JournalEntry]) -> list[EntryView]:
    """Return these entries with all that is shown of them, in one read."""
    rows = list(entries)
    postings = postings_of(organization_id=organization_id, entry_ids=[row.id for row in rows])
    by_entry: dict[UUID, list[Posting]] = {row.id: [] for row in rows}
    for posting in postings:
        by_entry[posting.entry_id].append(posting)
    return [view_entry(row, by_entry[row.id]) for row in rows]


def postings_of(*, organization_id: UUID, entry_ids: Sequence[UUID]) -> QuerySet[Posting]:
    """
    Return the postings of these entries in their order, each with what `view_entry` shows.

    What is shown of an entry comes with the first of its postings, by an index each: one read of
    all of it and not five.
    """
    own = {"organization_id": organization_id, "entry_id": OuterRef("entry_id")}
    named = LedgerAccount.objects.filter(organization_id=organization_id, id=OuterRef("account_id"))
    undone = JournalEntry.objects.filter(
        organization_id=organization_id, reverses_id=OuterRef("entry_id")
    )
    said = EntryMetadata.objects.filter(**own).order_by("-number")
    newest = said.values(said=JSONObject(number="number", metadata="metadata"))
    return (
        Posting.objects.filter(organization_id=organization_id, entry_id__in=entry_ids)
        .annotate(
            code=Subquery(named.values("code")[:1]),
            hold_id=with_first(HoldEvent.objects.filter(**own).values("hold_id")),
            reversed_by=with_first(undone.values("id")),
            said=with_first(newest),
        )
        .order_by("entry_id", "number")
    )


def with_first(found: QuerySet[Any, Any]) -> Case:
    """Return what is looked up once for an entry: with its first posting, and no other."""
    return Case(When(number=1, then=Subquery(found[:1])))


def view_entry(row: JournalEntry, postings: Sequence[Any]) -> EntryView:
    """Return an entry as it is shown, of its postings as `postings_of` returns them."""
    first = postings[0] if postings else None
    said = (first and first.said) or {"number": 0, "metadata": row.metadata}
    return EntryView(
        id=row.id,
        kind=row.kind,
        reference=row.reference,
        description=row.description,
        effective_at=row.effective_at,
        recorded_at=row.recorded_at,
        reverses=row.reverses_id,
        reversed_by=first and first.reversed_by,
        hold=first and first.hold_id,
        actor=row.actor,
        metadata=said["metadata"],
        annotations=said["number"],
        postings=tuple(
            PostingView(
                account_id=posting.account_id,
                code=posting.code,
                amount_minor=posting.amount_minor,
                currency=posting.currency,
                account_version=posting.account_version,
                balance_after_minor=posting.balance_after_minor,
            )
            for posting in postings
        ),
    )


def reversals_of(*, organization_id: UUID, entry_ids: Iterable[UUID]) -> dict[UUID, UUID]:
    """Return the entries that undid these, by entry; one that stands has none."""
    rows = JournalEntry.objects.filter(
        organization_id=organization_id, reverses_id__in=list(entry_ids)
    )
    return dict(rows.values_list("reverses_id", "id"))


def entry_amounts(*, organization_id: UUID, entry_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return what each of these entries moved on its first account, in minor units."""
    rows = Posting.objects.filter(organization_id=organization_id, entry_id__in=entry_ids, number=1)
    return {entry_id: abs(amount) for entry_id, amount in rows.values_list("entry_id",
            "amount_minor")}  # fmt: skip


def accounts_of_entries(*, organization_id: UUID, entry_ids: Sequence[UUID]) -> list[UUID]:
    """Return the accounts that these entries post to."""
    rows = Posting.objects.filter(organization_id=organization_id, entry_id__in=entry_ids)
    return list(rows.values_list("account_id", flat=True).distinct())
