"""Sealing: committed entries join their organisation's chain, and the totals of its months."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.core import audit, statements, transactions
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken
from apps.core.ids import encode_id
from apps.ledger import queries
from apps.ledger.models import ChainHead
from apps.ledger.rules import chain

# Some seconds' work of one core at most, so that a portion is no long transaction.
PORTION: Final = 10_000

_LINKS: Final = """
    INSERT INTO ledger_chain_link (organization_id, position, entry_id, hash)
    SELECT %(org)s, link.position, link.entry_id, link.hash
      FROM unnest(%(positions)s, %(ids)s, %(hashes)s::bytea[])
           AS link(position, entry_id, hash)
"""
_TOTALS: Final = """
    INSERT INTO ledger_monthly_total AS total
        (organization_id, account_id, clock, month, debits_minor, credits_minor, postings,
         first_version, last_version)
    SELECT %(org)s, p.account_id, time.clock,
           date_trunc('month', time.instant, 'UTC')::date AS month,
           COALESCE(SUM(p.amount_minor) FILTER (WHERE p.amount_minor > 0), 0),
           COALESCE(-SUM(p.amount_minor) FILTER (WHERE p.amount_minor < 0), 0),
           COUNT(*), MIN(p.account_version), MAX(p.account_version)
      FROM unnest(%(ids)s) AS sealed(id)
      JOIN ledger_posting AS p ON p.organization_id = %(org)s AND p.entry_id = sealed.id
     CROSS JOIN LATERAL (VALUES ('effective', p.effective_at), ('recorded', p.recorded_at))
           AS time(clock, instant)
     GROUP BY p.account_id, time.clock, month
        ON CONFLICT (organization_id, account_id, clock, month) DO UPDATE
       SET debits_minor = total.debits_minor + excluded.debits_minor,
           credits_minor = total.credits_minor + excluded.credits_minor,
           postings = total.postings + excluded.postings,
           first_version = LEAST(total.first_version, excluded.first_version),
           last_version = GREATEST(total.last_version, excluded.last_version)
"""


@transactions.outermost
def seal_entries(*, organization_id: UUID, now: datetime, limit: int = PORTION) -> int:
    """
    Seal the next entries of the organisation's event feed; return how many, 0 if none is left.

    Their links, the totals of their months and the head move in one transaction. Batches of the
    feed come whole, so it may be some more than `limit`; those that hold no entry are passed over,
    and those that the relay has not numbered yet wait for it. Call it until it returns 0.

    :raises InvariantBroken: if an entry of the feed is not there, or reverses one not sealed
    """
    head = queries.lock_chain_head(organization_id=organization_id)
    entry_ids: list[UUID] = []
    while not entry_ids:
        portion = queries.find_waiting_portion(
            organization_id=organization_id, after=head.feed_position, limit=limit
        )
        if portion is None:
            break
        head.feed_position = portion.feed_position
        entry_ids = list(portion.entry_ids)
    append(head=head, entry_ids=entry_ids, now=now)
    return len(entry_ids)


@transactions.required
def append(*, head: ChainHead, entry_ids: Sequence[UUID], now: datetime) -> None:
    """
    Extend the chain of a head that the caller has locked, and save the head.

    :raises InvariantBroken: if an entry is not there, or reverses one that is not sealed
    """
    if entry_ids:
        positions = {id_: place for place, id_ in enumerate(entry_ids, head.position + 1)}
        hashes = _hashes(head, entry_ids, positions)
        values = {
            "org": head.organization_id,
            "positions": statements.int8s(list(positions.values())),
            "ids": statements.uuids(entry_ids),
            "hashes": statements.byteas(hashes),
        }
        statements.send(_LINKS, values)
        statements.send(_TOTALS, {name: values[name] for name in ("org", "ids")})
        head.position += len(entry_ids)
        head.hash, head.sealed_at = hashes[-1], now
    head.save(update_fields=["position", "hash", "feed_position", "sealed_at"])


def _hashes(head: ChainHead, entry_ids: Sequence[UUID], positions: dict[UUID, int]) -> list[bytes]:
    contents = queries.list_contents(
        organization_id=head.organization_id, entry_ids=entry_ids, positions=positions
    )
    previous, hashes = bytes(head.hash), []
    for id_ in entry_ids:
        if id_ not in contents:
            msg = f"{encode_id('je', id_)} cannot be sealed: it, or what it reverses, is missing."
            raise InvariantBroken(msg)
        previous = chain.link(previous, positions[id_], contents[id_])
        hashes.append(previous)
    return hashes


@transactions.outermost
def record_verification(
    *, organization_id: UUID, position: int, hash_: bytes, actor: Actor, now: datetime
) -> None:
    """Keep in the audit trail that the chain was recomputed up to `position`, and is right."""
    audit.record(
        queries.VERIFIED,
        queries.chain_subject(organization_id),
        organization_id=organization_id,
        actor=actor,
        after={"position": position, "hash": hash_.hex(), "verified_at": now.isoformat()},
    )
