"""Pages of entries and of postings (`_search`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from uuid import UUID

from apps.ledger.models import JournalEntry, LedgerAccount, Posting
from apps.ledger.queries._account_lane import scan_account
from apps.ledger.queries._entry_lanes import scan_entries
from apps.ledger.queries._journal import EntryView, view_entries
from apps.ledger.queries._matching import has_amount
from apps.ledger.queries._search import Ask, Found, Place, Scanned, Search, cut


@dataclass(frozen=True, slots=True)
class FoundPosting:
    """One posting with what its entry and its account say of it."""

    entry_id: UUID
    number: int
    account_id: UUID
    code: str
    amount_minor: int
    currency: str
    account_version: int
    balance_after_minor: int
    kind: str
    reference: str | None
    description: str
    effective_at: datetime
    recorded_at: datetime


def list_entries(*, search: Search, ask: Ask) -> Found[EntryView]:
    """
    Return a page of the entries that match, with their postings.

    Newest first in the search's own order. A page may hold fewer rows than were asked for, even
    none, and still have an older one: the search stopped there so as to answer in time.
    """
    if search.account_id is not None:
        page = cut(scan_account(search, search.account_id, ask), ask)
    else:
        page = cut(scan_entries(search, ask), ask)
    ids = [place.entry_id for place in page.rows]
    rows = {
        row.id: row
        for row in JournalEntry.objects.filter(organization_id=search.organization_id, id__in=ids)
    }
    views = view_entries(organization_id=search.organization_id, entries=[rows[id_] for id_ in ids])
    return Found(views, page.older, page.newer)


def list_postings(*, search: Search, ask: Ask) -> Found[FoundPosting]:
    """
    Return a page of the postings that match; those of one entry together, in their order.

    Newest first in the search's own order; a page may be short, as a page of entries may.
    """
    if search.account_id is not None:
        page = cut(scan_account(search, search.account_id, ask), ask)
        rows = _postings(search, page.rows)
    else:
        # The entry of the place itself may have postings that were not shown yet.
        scanned = scan_entries(search, ask, inclusive=ask.place is not None)
        by_key = {(row.entry_id, row.number): row for row in _postings(search, scanned.places)}
        page = cut(_flat(scanned, list(by_key.values()), ask), ask)
        rows = [by_key[place.entry_id, place.number] for place in page.rows]
    return Found(_viewed(search.organization_id, rows), page.older, page.newer)


def _postings(search: Search, places: Sequence[Place]) -> list[Posting]:
    """Return the postings of these entries that match, entries in the order of their places."""
    rows = Posting.objects.filter(
        has_amount(search),
        organization_id=search.organization_id,
        entry_id__in=[place.entry_id for place in places],
    )
    if search.account_id is not None:
        rows = rows.filter(account_id=search.account_id)
    order = {place.entry_id: index for index, place in enumerate(places)}
    return sorted(rows, key=lambda row: (order[row.entry_id], row.number))


def _flat(scanned: Scanned, rows: Sequence[Posting], ask: Ask) -> Scanned:
    """Return a scan of entries as one of their postings, in the direction of the scan."""
    found: list[Place] = []
    by_entry = {place.entry_id: place for place in scanned.places}
    for entry_id, group in groupby(rows, key=attrgetter("entry_id")):
        own = [replace(by_entry[entry_id], number=row.number) for row in group]
        if ask.place is not None and entry_id == ask.place.entry_id:
            # Postings of one entry stand first to last, among entries that stand newest first.
            own = [place for place in own if _is_beyond(place, ask.place, newer=ask.newer)]
        found += own[::-1] if ask.newer else own
    return Scanned(found, scanned.stopped)


def _is_beyond(place: Place, asked: Place, *, newer: bool) -> bool:
    return place.number < asked.number if newer else place.number > asked.number


def _viewed(organization_id: UUID, rows: Sequence[Posting]) -> list[FoundPosting]:
    entries = JournalEntry.objects.filter(
        organization_id=organization_id, id__in={row.entry_id for row in rows}
    )
    by_id = {entry.id: entry for entry in entries}
    named = LedgerAccount.objects.filter(
        organization_id=organization_id, id__in={row.account_id for row in rows}
    )
    codes = dict(named.values_list("id", "code"))
    return [
        FoundPosting(
            entry_id=row.entry_id,
            number=row.number,
            account_id=row.account_id,
            code=codes[row.account_id],
            amount_minor=row.amount_minor,
            currency=row.currency,
            account_version=row.account_version,
            balance_after_minor=row.balance_after_minor,
            kind=by_id[row.entry_id].kind,
            reference=by_id[row.entry_id].reference,
            description=by_id[row.entry_id].description,
            effective_at=row.effective_at,
            recorded_at=row.recorded_at,
        )
        for row in rows
    ]
