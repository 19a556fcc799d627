"""The chain recomputed, link by link, from a stream: memory stays flat however long it is."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from apps.core import queries as core_queries
from apps.core.ids import decode_id, encode_id
from apps.core.streaming import stream
from apps.ledger.events import JournalEntryPosted
from apps.ledger.models import ChainHead, ChainLink, JournalEntry, Posting
from apps.ledger.rules import chain
from apps.ledger.rules.chain import EntryContent, SealedPosting

_PORTION: Final = 10_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Everything in the order of the chain, a row a posting.
_CHAIN: Final = """
    SELECT l.position, l.entry_id, l.hash, e.id IS NOT NULL, e.reverses_id, r.position, e.kind,
           e.reference, e.description, (EXTRACT(EPOCH FROM e.effective_at) * 1000000)::bigint,
           (EXTRACT(EPOCH FROM e.recorded_at) * 1000000)::bigint, e.actor, e.metadata::text,
           COALESCE(a.code, ''), COALESCE(a.type, ''), p.amount_minor, p.currency,
           p.account_version, p.balance_after_minor
      FROM ledger_chain_link l
      LEFT JOIN ledger_journal_entry e
        ON e.organization_id = l.organization_id AND e.id = l.entry_id
      LEFT JOIN ledger_posting p
        ON p.organization_id = e.organization_id AND p.entry_id = e.id
      LEFT JOIN ledger_account a
        ON a.organization_id = p.organization_id AND a.id = p.account_id
      LEFT JOIN ledger_chain_link r
        ON r.organization_id = e.organization_id AND r.entry_id = e.reverses_id
     WHERE l.organization_id = %(org)s
     ORDER BY l.position, p.number
"""
_AFTER_ALL: Final = b"\xff" * 17
# Printed ids sort like the ids themselves, so both come in one order.
_TOLD: Final = """
    SELECT aggregate_id FROM core_outbox_event
     WHERE organization_id = %(org)s AND name = %(name)s
     ORDER BY aggregate_id COLLATE "C"
"""
_PRESENT: Final = """
    SELECT uuid_send(id) FROM ledger_journal_entry WHERE organization_id = %(org)s ORDER BY id
"""

type Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ChainFault:
    """The first link that is wrong: where it stands, the entry it names, and what differs."""

    position: int
    entry: str
    what: str


class StoredLink(NamedTuple):
    """A link as it is stored, and its entry; without content it says what is missing."""

    position: int
    entry_id: UUID
    hash: bytes
    content: EntryContent | None
    missing: str


def list_chained_organizations() -> list[UUID]:
    """Return the organisations that have a chain, or an event feed to make one from."""
    heads = set(ChainHead.objects.values_list("organization_id", flat=True))
    links = set(ChainLink.objects.values_list("organization_id", flat=True).distinct())
    return sorted(heads | links | core_queries.list_feed_positions().keys())


def count_entries_and_postings(*, organization_id: UUID | None) -> tuple[int, int]:
    """Return how many entries and postings the books hold, of one organisation or of all."""
    mine = {} if organization_id is None else {"organization_id": organization_id}
    return JournalEntry.objects.filter(**mine).count(), Posting.objects.filter(**mine).count()


def find_chain_fault(*, organization_id: UUID, on_progress: Progress) -> ChainFault | None:
    """
    Recompute the organisation's chain from its entries; return the first link that is wrong.

    Call it inside a snapshot: chain and entries have to be of one instant. `on_progress` is told
    how many links were recomputed so far.
    """
    expected, previous = 0, chain.GENESIS
    for link in stream_chain(organization_id=organization_id):
        expected += 1
        what = link.missing
        if link.position != expected:
            what = f"the link at position {expected} is missing; the next one is {link.position}"
        elif link.content is not None:
            previous = chain.link(previous, expected, link.content)
            if previous != link.hash:
                what = _differences(organization_id, link.entry_id, link.content)
        if what:
            return ChainFault(expected, encode_id("je", link.entry_id), what)
        if expected % _PORTION == 0:
            on_progress(expected)
    return _head_fault(organization_id, expected, previous)


def stream_chain(*, organization_id: UUID) -> Iterator[StoredLink]:
    """
    Yield every link of the organisation's chain in order, with its entry's content.

    Call it inside a snapshot (`core.streaming`).
    """
    rows = _stream(_CHAIN, {"org": organization_id})
    for position, group in groupby(rows, key=itemgetter(0)):
        postings = list(group)
        _, entry_id, hash_, is_there, reverses_id, reverses, *_ = postings[0]
        if not is_there:
            yield StoredLink(position, entry_id, hash_, None, "the entry is missing")
        elif reverses_id is not None and reverses is None:
            missing = "the entry it reverses is not sealed"
            yield StoredLink(position, entry_id, hash_, None, missing)
        else:
            yield StoredLink(position, entry_id, hash_, _content(postings), "")


def _content(rows: Sequence[tuple[Any, ...]]) -> EntryContent:
    reverses, metadata = rows[0][5], rows[0][12]
    postings = () if rows[0][15] is None else tuple([SealedPosting._make(r[13:]) for r in rows])
    parsed = {} if metadata == "{}" else json.loads(metadata)
    return EntryContent._make((*rows[0][6:12], parsed, reverses, postings))


def _stream(statement: str, values: Mapping[str, object]) -> Iterator[tuple[Any, ...]]:
    """
    Yield rows in binary.

    What is asked reads all of an organisation, so joins by hash or merge are right at any size.
    Where the statistics do not know the organisation yet (its books were just imported), the
    planner expects one row of each table and nests loops, whose time is the product of all.
    """
    return stream(statement, values, portion=_PORTION, binary=True, nested_loops=False)


def _head_fault(organization_id: UUID, position: int, previous: bytes) -> ChainFault | None:
    head = ChainHead.objects.filter(organization_id=organization_id).first()
    at, hash_ = (head.position, bytes(head.hash)) if head is not None else (0, chain.GENESIS)
    if (at, hash_) == (position, previous):
        return None
    return ChainFault(position, "", f"the head is at position {at} with hash {hash_.hex()}")


def _differences(organization_id: UUID, entry_id: UUID, content: EntryContent) -> str:
    """Say what is not as the entry's event has it, where the event is still kept."""
    data: dict[str, Any] | None = core_queries.find_event_data(
        organization_id=organization_id,
        name=JournalEntryPosted.name,
        aggregate_id=encode_id("je", entry_id),
    )
    if data is None:
        return "the entry is not what was sealed here"
    effective_at = _EPOCH + timedelta(microseconds=content.effective_us)
    compared = {
        "kind": (content.kind, data["kind"]),
        "reference": (content.reference, data["reference"]),
        "effective_at": (effective_at, datetime.fromisoformat(data["effective_at"])),
        "postings": (
            [(posting.amount_minor, posting.currency) for posting in content.postings],
            [(posting["amount"], posting["currency"]) for posting in data["postings"]],
        ),
    }
    differing = [
        f"{name} is {now!s}, and was {was!s}" for name, (now, was) in compared.items() if now != was
    ]
    return "; ".join(differing) or (
        "the entry is not what was sealed here: description, metadata, actor, recorded_at, an"
        " account, a balance after, or the link itself"
    )


def find_event_without_entry(*, organization_id: UUID, on_progress: Progress) -> str | None:
    """
    Return the first entry that an event tells of and the organisation's books do not have.

    However well somebody took an entry out, chain and counters included, its event was told. Call
    it inside a snapshot.
    """
    values = {"org": organization_id, "name": JournalEntryPosted.name}
    present = _stream(_PRESENT, values)
    id_ = b""
    for count, (printed,) in enumerate(_stream(_TOLD, values), 1):
        told = decode_id("je", printed).bytes
        while id_ < told:
            (id_,) = next(present, (_AFTER_ALL,))
        if id_ != told:
            return str(printed)
        if count % _PORTION == 0:
            on_progress(count)
    return None
