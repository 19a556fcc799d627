"""
What a row has to match to be found, and which few entries a search names by itself.

Each condition is written so that it is checked row by row: the lane says which rows those are, and
Postgres, which knows how many there are on average, must not take another way (ADR 0080).
"""

import json
from typing import Any, Final
from uuid import UUID

from django.db.models import F, JSONField, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, Concat

from apps.core.windows import during
from apps.ledger.models import EntryMetadata, JournalEntry, Posting
from apps.ledger.queries import _bounds as bounds
from apps.ledger.queries._search import Search, with_metadata
from apps.ledger.rules import TRANSFER_KIND

_INDEXES_OF_TEXTS: Final = frozenset({"entry_metadata", "later_entry_metadata"})


def matching_entries(search: Search) -> QuerySet[JournalEntry]:
    """Return the organisation's entries that match, but for account and amount."""
    rows = JournalEntry.objects.filter(_within(search), organization_id=search.organization_id)
    if search.kind is not None:
        # As no index has it: that of kinds has the whole history of a kind, whatever the lane.
        rows = rows.alias(said_kind=Concat("kind", Value(""))).filter(said_kind=search.kind)
    if search.actor is not None:
        lookup = "actor__startswith" if search.actor.endswith(":") else "actor"
        rows = rows.filter(**{lookup: search.actor})
    if search.metadata:
        rows = rows.annotate(current=current_metadata()).filter(
            Q(current__contains=dict(search.metadata))
        )
    return rows


def current_metadata() -> Coalesce:
    """Return an entry's metadata as it is now: the newest annotation's, or else its own."""
    newest = EntryMetadata.objects.filter(
        organization_id=OuterRef("organization_id"), entry_id=OuterRef("id")
    ).order_by("-number")
    return Coalesce(
        Subquery(newest.values("metadata")[:1]), F("metadata"), output_field=JSONField()
    )


def matching_postings(search: Search) -> QuerySet[Posting]:
    """Return the postings a search asks for, in no order: the caller orders and bounds them."""
    rows = Posting.objects.filter(
        _within(search), has_amount(search), organization_id=search.organization_id
    )
    if not search.asks_of_entries:
        return rows
    # One look for each posting that the lane meets. As EXISTS it would be a join, which Postgres
    # begins with the entries of all time where it takes those that match for few. That Postgres
    # takes one in two hundred to match is also what has it begin with entries that are named.
    one = matching_entries(search).filter(id=OuterRef("entry_id")).values(found=Value(1))
    return rows.alias(of_entry=Subquery(one[:1])).filter(of_entry=1)


def has_amount(search: Search) -> Q:
    """Return the condition on a posting's amount, whose sign is its side, and its currency."""
    least = 1 if search.amount_min is None else search.amount_min
    most = search.amount_max
    currency = Q() if search.currency is None else Q(currency=search.currency)
    if search.amount_min is None and most is None:
        return currency
    if most is None:
        return currency & (Q(amount_minor__gte=least) | Q(amount_minor__lte=-least))
    return currency & (
        Q(amount_minor__range=(least, most)) | Q(amount_minor__range=(-most, -least))
    )


def _within(search: Search) -> Q:
    return during("effective_at", search.effective) & during("recorded_at", search.recorded)


def _with_metadata(search: Search) -> list[UUID] | None:
    """
    Return the entries that have, or had, this metadata; None if that does not narrow the search.

    Asked for without an order, so that Postgres is free to look them up by what they are. Whether
    it is their metadata now is for the caller to see.
    """
    if not search.metadata:
        return None
    wanted = with_metadata(search.metadata)
    own = JournalEntry.objects.filter(wanted, organization_id=search.organization_id)
    later = EntryMetadata.objects.filter(wanted, organization_id=search.organization_id)
    found: list[UUID] = []
    for ids in (own.values_list("id", flat=True), later.values_list("entry_id", flat=True)):
        some = ids[: bounds.CANDIDATES_MAX + 1]
        if _is_common(some):
            return None
        found += some
    return found if len(found) <= bounds.CANDIDATES_MAX else None


def _is_common(rows: QuerySet[Any, Any]) -> bool:
    """
    Say whether Postgres would look up many rows in an index of texts.

    That index is one for all organisations. What a large one has everywhere would be looked up for
    a small one that hardly has it; only the planner's own figures tell that before.
    """
    todo = [json.loads(rows.explain(format="json"))[0]["Plan"]]
    while todo:
        node = todo.pop()
        if node.get("Index Name") in _INDEXES_OF_TEXTS and node["Plan Rows"] > bounds.LOOK_UPS_MAX:
            return True
        todo += node.get("Plans", [])
    return False


def _of_kind(search: Search) -> list[UUID] | None:
    """Return the entries of a kind that the organisation rarely posts; None if there are more."""
    if search.kind is None or search.kind == TRANSFER_KIND:
        return None
    ids = JournalEntry.objects.filter(organization_id=search.organization_id, kind=search.kind)
    # In the order of its index, which no other has: it is followed, however common the kind is.
    found = ids.order_by("id").values_list("id", flat=True)
    is_common = found[bounds.CANDIDATES_MAX : bounds.CANDIDATES_MAX + 1]
    return None if list(is_common) else list(found)


def named_entries(search: Search, *, or_kind: bool) -> list[UUID] | None:
    """
    Return the few entries that a reference or metadata names; None if neither does.

    Or a rare kind, where the lane has many rows and is not that of the kind's own index.
    """
    if search.reference is not None:
        named = matching_entries(search).filter(reference=search.reference)
        return list(named.values_list("id", flat=True))
    found = _with_metadata(search)
    return _of_kind(search) if found is None and or_kind else found
