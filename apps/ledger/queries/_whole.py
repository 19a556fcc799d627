"""An entry with what is undone with it: all that its own page shows of the books."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import OuterRef

from apps.ledger.models import ChainLink, FxTransfer, JournalEntry
from apps.ledger.queries._balances import is_of_fact
from apps.ledger.queries._fx import fx_transfers_of
from apps.ledger.queries._journal import EntryView, postings_of, view_entry, with_first
from apps.ledger.rules import FX_KIND


@dataclass(frozen=True, slots=True)
class WholeView:
    """
    An entry, its place in the audit chain and the hash there, and the exchange it is a side of.

    `undone_exchange` is the one whose side it took back, if that was asked for. `out_of_reach` are
    id and code of the accounts that keep it, or what is undone with it, from being undone by hand.
    """

    entry: EntryView
    position: int | None
    hash: bytes | None
    exchange: FxTransfer | None
    undone_exchange: FxTransfer | None
    out_of_reach: Sequence[tuple[UUID, str]]

    @property
    def entry_ids(self) -> list[UUID]:
        """Return what is undone as one: the entry, or both of its exchange."""
        if self.exchange is None:
            return [self.entry.id]
        return [self.exchange.sold_entry_id, self.exchange.bought_entry_id]


def view_whole(*, entry: JournalEntry, with_undone: bool) -> WholeView:
    """
    Return an entry that was read, in one read, and one of exchanges where it may be of one.

    `with_undone` asks for the exchange of the entry that it took back.
    """
    owner = entry.organization_id
    asked = [entry.id] if entry.kind == FX_KIND else []
    if with_undone and entry.reverses_id is not None:
        asked.append(entry.reverses_id)
    exchanges = fx_transfers_of(organization_id=owner, entry_ids=asked) if asked else {}
    exchange = exchanges.get(entry.id)
    both = {exchange.sold_entry_id, exchange.bought_entry_id} if exchange else {entry.id}
    link = ChainLink.objects.filter(organization_id=owner, entry_id=OuterRef("entry_id"))
    postings: list[Any] = list(
        postings_of(organization_id=owner, entry_ids=list(both)).annotate(
            is_of_fact=is_of_fact("account_id"),
            position=with_first(link.values("position")),
            hash=with_first(link.values("hash")),
        )
    )
    own = [posting for posting in postings if posting.entry_id == entry.id]
    # What was undone alone, as was possible once (ADR 0128), is not undone again.
    undone = {posting.entry_id for posting in postings if posting.reversed_by is not None}
    others = [one for one in postings if one.entry_id not in {entry.id, *undone}]
    first = own[0] if own else None
    return WholeView(
        view_entry(entry, own),
        first and first.position,
        first and first.hash,
        exchange,
        exchanges.get(entry.reverses_id) if entry.reverses_id else None,
        [
            (one.account_id, one.code)
            for part in (own, others)
            for one in sorted(part, key=lambda one: one.code)
            if one.is_of_fact
        ],
    )
