"""The locks of the books: here, and nowhere else."""

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from django.db import connection

from apps.ledger.models import BalanceMonitor, Hold
from apps.ledger.rules import BalanceState, HoldState, KnownEntry, MonitorState

_LOCK_BALANCES: Final = """
    SELECT id, currency, credit_normal, status, min_available_minor, internal,
           posted_debits, posted_credits, pending_debits, pending_credits, version,
           monitored
      FROM ledger_balance
     WHERE organization_id = %s AND id = ANY(%s)
     ORDER BY id
       FOR NO KEY UPDATE
"""
_KNOWN_ENTRIES: Final = """
    SELECT e.reference, e.id, p.account_id, p.amount_minor, p.currency
      FROM ledger_journal_entry e
      JOIN ledger_posting p ON p.organization_id = e.organization_id AND p.entry_id = e.id
     WHERE e.organization_id = %s AND e.reference = ANY(%s)
     ORDER BY e.reference, p.number
"""


def lock_balances(
    *, organization_id: UUID, account_ids: Iterable[UUID]
) -> dict[UUID, BalanceState]:
    """
    Return these balances locked, in ascending id: the one global order, so no two posters deadlock.

    Every value the engine decides by is in the locked row itself, which Postgres re-reads after
    a wait; a joined row would be of the statement's snapshot.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_BALANCES, [organization_id, sorted(account_ids)])
        return {row[0]: BalanceState(*row) for row in cursor.fetchall()}


def lock_holds(*, organization_id: UUID, hold_ids: Iterable[UUID]) -> dict[UUID, HoldState]:
    """Return these holds locked, ascending: work rows come before balances in the lock order."""
    rows = (
        Hold.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id__in=list(hold_ids))
        .order_by("id")
    )
    return {hold.id: _hold_state(hold) for hold in rows}


def _hold_state(hold: Hold) -> HoldState:
    return HoldState(
        id=hold.id,
        debit_account_id=hold.debit_account_id,
        credit_account_id=hold.credit_account_id,
        currency=hold.currency,
        amount_minor=hold.amount_minor,
        captured_minor=hold.captured_minor,
        status=hold.status,
        expires_at=hold.expires_at,
        reference=hold.reference,
    )


def lock_monitors(*, organization_id: UUID, account_ids: Iterable[UUID]) -> list[MonitorState]:
    """
    Return the active monitors of these accounts locked, ascending.

    Whoever calls this holds the accounts' balances: monitors come after them in the lock order,
    so what crosses a threshold is decided by one poster at a time.
    """
    rows = (
        BalanceMonitor.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, account_id__in=list(account_ids), is_active=True)
        .order_by("id")
    )
    return [
        MonitorState(
            id=row.id,
            account_id=row.account_id,
            measure=row.measure,
            direction=row.direction,
            threshold_minor=row.threshold_minor,
            is_beyond=row.is_beyond,
        )
        for row in rows
    ]


def find_entries_by_reference(
    *, organization_id: UUID, references: Sequence[str]
) -> dict[str, KnownEntry]:
    """Return what stands under these references, with its legs in their order."""
    if not references:
        return {}
    found: dict[str, tuple[UUID, list[tuple[UUID, int, str]]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_KNOWN_ENTRIES, [organization_id, list(references)])
        for reference, entry_id, *leg in cursor.fetchall():
            found.setdefault(reference, (entry_id, []))[1].append((leg[0], leg[1], leg[2]))
    return {ref: KnownEntry(id_, tuple(legs)) for ref, (id_, legs) in found.items()}
