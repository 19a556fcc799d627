"""The audit chain as it stands: what is sealed, what waits, and the content of each entry."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from apps.core import queries as core_queries
from apps.core import statements
from apps.core.ids import decode_id
from apps.ledger.events import JournalEntryPosted
from apps.ledger.models import ChainHead, ChainLink, JournalEntry
from apps.ledger.rules import chain
from apps.ledger.rules.chain import EntryContent, SealedPosting

_PORTION: Final = 10_000
_POSITIONS: Final = """
    SELECT entry_id, position FROM ledger_chain_link
     WHERE organization_id = %(org)s AND entry_id = ANY(%(ids)s::uuid[])
"""
_ENTRIES: Final = """
    SELECT e.id, e.kind, e.reference, e.description,
           (EXTRACT(EPOCH FROM e.effective_at) * 1000000)::bigint,
           (EXTRACT(EPOCH FROM e.recorded_at) * 1000000)::bigint,
           e.actor, e.metadata::text, e.reverses_id
      FROM unnest(%(ids)s::uuid[]) AS asked(id)
      JOIN ledger_journal_entry AS e ON e.organization_id = %(org)s AND e.id = asked.id
"""
_ACCOUNTS: Final = """
    SELECT a.id, a.code, a.type
      FROM ledger_account AS a
     WHERE a.organization_id = %(org)s AND a.id = ANY(%(ids)s::uuid[])
"""
# Of a posting whose account is gone, as no guard lets happen: its hash is then another one.
_NO_ACCOUNT: Final = ("", "")
_POSTINGS: Final = """
    SELECT p.entry_id, p.account_id, p.amount_minor, p.currency, p.account_version,
           p.balance_after_minor
      FROM unnest(%(ids)s::uuid[]) AS asked(id)
      JOIN ledger_posting AS p ON p.organization_id = %(org)s AND p.entry_id = asked.id
     ORDER BY p.entry_id, p.number
"""
# The act under which the audit trail keeps that a chain was recomputed, and found right.
VERIFIED: Final = "ledger.verify_chain"


@dataclass(frozen=True, slots=True)
class WaitingPortion:
    """Entries that are to be sealed next, in order, and the batch of the feed they reach to."""

    feed_position: int
    entry_ids: tuple[UUID, ...]


def find_waiting_portion(*, organization_id: UUID, after: int, limit: int) -> WaitingPortion | None:
    """Return the entries of the feed's next batches, or None if all its batches are sealed."""
    portion = core_queries.find_feed_portion(
        organization_id=organization_id, name=JournalEntryPosted.name, after=after, limit=limit
    )
    if portion is None:
        return None
    ids = tuple(decode_id("je", printed) for printed in portion.aggregate_ids)
    return WaitingPortion(portion.last_position, ids)


def list_organizations_to_seal() -> list[UUID]:
    """Return the organisations whose feed has batches that their chain has not come to yet."""
    sealed = dict(ChainHead.objects.values_list("organization_id", "feed_position"))
    feeds = core_queries.list_feed_positions()
    return sorted(id_ for id_, position in feeds.items() if position > sealed.get(id_, 0))


def is_sealed(*, organization_id: UUID, position: int) -> bool:
    """Say whether the organisation's chain has come to this place of its feed."""
    heads = ChainHead.objects.filter(organization_id=organization_id)
    return heads.filter(feed_position__gte=position).exists()


def has_events_to_seal_before(before: UUID) -> bool:
    """Say whether some chain has not come yet to a batch of its feed whose id is below `before`."""
    sealed = dict(ChainHead.objects.values_list("organization_id", "feed_position"))
    return any(
        core_queries.has_batch_before(organization_id=id_, after=sealed.get(id_, 0), before=before)
        for id_ in list_organizations_to_seal()
    )


def list_links(*, organization_id: UUID, after: int, limit: int) -> list[tuple[int, UUID, bytes]]:
    """Return position, entry and hash of the links that follow `after`, in order."""
    rows = ChainLink.objects.filter(organization_id=organization_id, position__gt=after)
    found = rows.order_by("position").values_list("position", "entry_id", "hash")[:limit]
    return [(position, entry_id, bytes(hash_)) for position, entry_id, hash_ in found]


def list_contents(
    *,
    organization_id: UUID,
    entry_ids: Sequence[UUID],
    positions: Mapping[UUID, int],
) -> dict[UUID, EntryContent]:
    """
    Return what is sealed of each entry, in two reads and one for reversals.

    `positions` are those of entries being sealed now, which may be reversed among themselves. An
    entry that is not there, or reverses one without a position, is missing from the answer.
    """
    values = {"org": organization_id, "ids": statements.uuids(entry_ids)}
    entries, postings = statements.run(_ENTRIES, values), statements.run(_POSTINGS, values)
    reversed_ids = {row[8] for row in entries if row[8] is not None}
    sealed = _positions(organization_id, reversed_ids - positions.keys())
    known = {**sealed, **positions}
    by_entry = _sealed_postings(organization_id, postings)
    found = {}
    for row in entries:
        id_, metadata, reverses_id = row[0], row[7], row[8]
        reverses = None if reverses_id is None else known.get(reverses_id, 0)
        if reverses == 0:
            continue
        later = ({} if metadata == "{}" else json.loads(metadata), reverses, by_entry.get(id_, ()))
        found[id_] = EntryContent._make((*row[1:7], *later))
    return found


def _positions(organization_id: UUID, entry_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return where these entries stand in the chain; one that is not sealed is missing."""
    if not entry_ids:
        return {}
    values = {"org": organization_id, "ids": statements.uuids([*entry_ids])}
    return dict(statements.run(_POSITIONS, values))


def _sealed_postings(
    organization_id: UUID, rows: Sequence[tuple[Any, ...]]
) -> dict[UUID, tuple[SealedPosting, ...]]:
    values = {"org": organization_id, "ids": statements.uuids([*{row[1] for row in rows}])}
    accounts = {id_: (code, type_) for id_, code, type_ in statements.run(_ACCOUNTS, values)}
    return {
        entry_id: tuple(
            SealedPosting(*accounts.get(row[1], _NO_ACCOUNT), *row[2:]) for row in group
        )
        for entry_id, group in groupby(rows, key=itemgetter(0))
    }


def stream_chain_by_id(*, organization_id: UUID) -> Iterator[tuple[int, UUID, bytes]]:
    """
    Yield the chain that the entries would have in the order of their ids: position, id, hash.

    A journal that is imported is posted by one process in that order, whether sealed by now or not.
    Several reads: to be called in a snapshot, where somebody may post meanwhile.
    """
    mine = JournalEntry.objects.filter(organization_id=organization_id)
    reversed_ids = set(mine.exclude(reverses=None).values_list("reverses_id", flat=True))
    place, previous, reversed_at = 0, chain.GENESIS, dict[UUID, int]()
    last: UUID | None = None
    while True:
        rest = mine if last is None else mine.filter(id__gt=last)
        ids = list(rest.order_by("id").values_list("id", flat=True)[:_PORTION])
        if not ids:
            return
        positions = {id_: position for position, id_ in enumerate(ids, place + 1)}
        reversed_at |= {id_: positions[id_] for id_ in reversed_ids & positions.keys()}
        contents = list_contents(
            organization_id=organization_id, entry_ids=ids, positions=reversed_at
        )
        for id_ in ids:
            place += 1
            previous = chain.link(previous, place, contents[id_])
            yield place, id_, previous
        last = ids[-1]


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """How far an organisation's chain has come, and what waits for it."""

    position: int
    hash: bytes
    feed_position: int
    sealed_at: datetime | None
    waiting: int
    oldest_waiting_at: datetime | None
    verified_at: datetime | None
    verified_position: int


def chain_status(*, organization_id: UUID) -> ChainStatus:
    """
    Return the head of the organisation's chain, and the entries that are not sealed yet.

    `oldest_waiting_at` is when the first of them was recorded; `verified_at` when all links up to
    `verified_position` were last recomputed and found right.
    """
    head = ChainHead.objects.filter(organization_id=organization_id).first()
    if head is None:
        head = ChainHead(organization_id=organization_id)
    waiting, oldest = core_queries.count_feed_rest(
        organization_id=organization_id, name=JournalEntryPosted.name, after=head.feed_position
    )
    verified = core_queries.find_latest_act(
        organization_id=organization_id, act=VERIFIED, subject=chain_subject(organization_id)
    )
    verified_at, after = verified or (None, {})
    return ChainStatus(
        position=head.position,
        hash=bytes(head.hash),
        feed_position=head.feed_position,
        sealed_at=head.sealed_at,
        waiting=waiting,
        oldest_waiting_at=oldest,
        verified_at=verified_at,
        verified_position=int(str(after.get("position", 0))),
    )


def chain_subject(organization_id: UUID) -> tuple[str, str]:
    """Return how the audit trail names the organisation's chain."""
    return "ledger.chainhead", str(organization_id)
