"""How invariants walk what is too large for one statement: by ids of entries, accounts or holds."""

from dataclasses import replace
from typing import Final

from apps.core.invariants import Walk, by_id


def _next_owner(*tables: str) -> str:
    """Return the first organisation of these after one, without reading the rows of any."""
    firsts = " UNION ALL ".join(
        f"(SELECT organization_id FROM {table}"  # noqa: S608  (names are ours)
        " WHERE organization_id > %(after)s ORDER BY organization_id LIMIT 1)"
        for table in tables
    )
    return f"SELECT organization_id FROM ({firsts}) AS owners ORDER BY organization_id LIMIT 1"  # noqa: S608


def _in_pairs(table: str) -> str:
    """Return the portion's last row, of half as many as may be looked at: each has about two."""
    return f"""
        SELECT id FROM (SELECT id FROM {table}
                         WHERE organization_id = %(org)s AND id > %(after)s
                         ORDER BY id LIMIT GREATEST(%(limit)s / 2, 1)) AS portion
         ORDER BY id DESC LIMIT 1
    """  # noqa: S608  (names are ours)


_NEXT_OWNER: Final = _next_owner("ledger_journal_entry", "ledger_posting", "ledger_balance")
# Also of events of holds that may be gone.
_NEXT_HOLDER: Final = _next_owner("ledger_hold", "ledger_hold_event")
# Most entries are of two postings, and most holds are placed, and end once.
_ENTRIES: Final = _in_pairs("ledger_journal_entry")
_HOLDS: Final = _in_pairs("ledger_hold")
# Accounts, until they have so many postings together; at least one.
_ACCOUNTS: Final = """
    SELECT id FROM (SELECT id, SUM(version) OVER (ORDER BY id) - version AS before
                      FROM (SELECT id, version FROM ledger_balance
                             WHERE organization_id = %(org)s AND id > %(after)s
                             ORDER BY id LIMIT %(limit)s) AS next) AS portion
     WHERE before < %(limit)s ORDER BY id DESC LIMIT 1
"""
# Batches, until they were answered with so many entries together; at least one. One has ten
# thousand at most, and is read whole to be counted: not many are that are not looked at then.
_BATCHES: Final = """
    SELECT id FROM (SELECT id, SUM(entries) OVER (ORDER BY id) - entries AS before
                      FROM (SELECT id, cardinality(entry_ids) AS entries
                              FROM ledger_transfer_batch WHERE id > %(after)s
                             ORDER BY id LIMIT GREATEST(%(limit)s / 100, 1)) AS next) AS portion
     WHERE before < %(limit)s ORDER BY id DESC LIMIT 1
"""


def by_entries(sql: str) -> Walk:
    """Return a walk of which each portion has whole entries."""
    return Walk(sql, _ENTRIES, _NEXT_OWNER)


def by_accounts(sql: str) -> Walk:
    """Return a walk of which each portion has whole accounts, however many postings one has."""
    return Walk(sql, _ACCOUNTS, _NEXT_OWNER)


def by_holds(sql: str) -> Walk:
    """Return a walk of which each portion has whole holds, with all that happened to them."""
    return Walk(sql, _HOLDS, _NEXT_HOLDER)


def by_batches(sql: str) -> Walk:
    """Return a walk of which each portion has whole batches, through those of all organizations."""
    return replace(by_id("ledger_transfer_batch", sql), portion=_BATCHES)
