"""The journal as it leaves: streamed, as of one instant."""

from collections.abc import Iterator
from typing import Final
from uuid import UUID

from django.db import connection
from msgspec import Raw

from apps.core.errors import InvariantBroken
from apps.core.ids import encode_id
from apps.ledger.formats import AccountRecord, EntryRecord, LegRecord, journal
from apps.ledger.models import Balance, ChainHead, LedgerAccount
from apps.ledger.queries._recount import stream_chain

_EXPORT_ACCOUNTS: Final = """
    SELECT a.code, a.type, a.currency, COALESCE(SUM(p.amount_minor), 0)::bigint
      FROM ledger_account a
      LEFT JOIN ledger_posting p
        ON p.organization_id = a.organization_id AND p.account_id = a.id
     WHERE a.organization_id = %s
     GROUP BY a.code, a.type, a.currency ORDER BY a.code
"""
_EXPORT_ENTRIES: Final = """
    SELECT e.id, e.kind, e.reference, e.description, e.effective_at, e.recorded_at,
           array_agg(ARRAY[a.code, a.type, p.amount_minor::text, p.currency] ORDER BY p.number)
      FROM ledger_journal_entry e
      JOIN ledger_posting p ON p.organization_id = e.organization_id AND p.entry_id = e.id
      JOIN ledger_account a ON a.organization_id = p.organization_id AND a.id = p.account_id
     WHERE e.organization_id = %s
     GROUP BY e.organization_id, e.id ORDER BY e.id
"""
_LATER_METADATA: Final = """
    SELECT l.position, m.number, m.metadata::text, m.actor, m.recorded_at
      FROM ledger_entry_metadata m
      JOIN ledger_chain_link l ON l.organization_id = m.organization_id AND l.entry_id = m.entry_id
     WHERE m.organization_id = %s
     ORDER BY l.position, m.number
"""


def export_accounts(*, organization_id: UUID) -> list[AccountRecord]:
    """Return every account with the sum of its postings, debit positive."""
    with connection.cursor() as cursor:
        cursor.execute(_EXPORT_ACCOUNTS, [organization_id])
        return [AccountRecord(*row) for row in cursor.fetchall()]


def stream_entries(*, organization_id: UUID, chunk: int = 2000) -> Iterator[EntryRecord]:
    """
    Yield every entry in the order of its id, by a server-side cursor: memory stays flat.

    Call it inside a REPEATABLE READ transaction where accounts and entries have to agree.
    """
    connection.ensure_connection()
    with connection.connection.cursor(name="journal_export") as cursor:
        cursor.itersize = chunk
        cursor.execute(_EXPORT_ENTRIES, [organization_id])
        for id_, kind, reference, description, effective_at, recorded_at, legs in cursor:
            yield EntryRecord(
                id=encode_id("je", id_),
                kind=kind,
                reference=reference or "",
                description=description,
                effective_at=effective_at,
                recorded_at=recorded_at,
                legs=tuple(
                    LegRecord(code, type_, int(amount), currency)
                    for code, type_, amount, currency in legs
                ),
            )


def stream_journal(*, organization_id: UUID, chunk: int = 2000) -> Iterator[journal.Line]:
    """
    Yield the sealed journal whole, as it is imported again: header, accounts, entries, metadata.

    Call it inside a snapshot. An entry that is not sealed yet is not in it.

    :raises InvariantBroken: if a link's entry is missing: `verify_ledger` says more
    """
    head = ChainHead.objects.filter(organization_id=organization_id).first()
    accounts = LedgerAccount.objects.filter(organization_id=organization_id)
    yield journal.HeaderLine(
        format=journal.FORMAT,
        organization=encode_id("org", organization_id),
        accounts=accounts.count(),
        entries=0 if head is None else head.position,
        hash="" if head is None else bytes(head.hash).hex(),
    )
    balances = Balance.objects.filter(organization_id=organization_id).in_bulk()
    for account in accounts.order_by("code").iterator(chunk_size=chunk):
        balance = balances[account.id]
        yield journal.AccountLine(
            code=account.code,
            account_type=account.type,
            currency=account.currency,
            min_available=balance.min_available_minor,
            internal=balance.internal,
            status=balance.status,
            metadata=journal.metadata_raw(account.metadata),
        )
    for link in stream_chain(organization_id=organization_id):
        if link.content is None:
            msg = f"{encode_id('je', link.entry_id)} at position {link.position}: {link.missing}."
            raise InvariantBroken(msg)
        yield journal.entry_line(
            position=link.position,
            hash_=link.hash,
            id_=encode_id("je", link.entry_id),
            content=link.content,
        )
    with connection.connection.cursor(name="later_metadata") as cursor:
        cursor.itersize = chunk
        cursor.execute(_LATER_METADATA, [organization_id])
        for position, number, metadata, actor, recorded_at in cursor:
            yield journal.MetadataLine(
                position=position,
                number=number,
                metadata=Raw(metadata.encode()),
                actor=actor,
                recorded_at=recorded_at,
            )
