"""The journal as it leaves: streamed, as of one instant."""

from collections.abc import Iterator
from typing import Final
from uuid import UUID

from django.db import connection

from apps.core.ids import encode_id
from apps.ledger.formats import AccountRecord, EntryRecord, LegRecord

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
