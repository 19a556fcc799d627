"""How invariants walk what is too large for one statement: by ids of entries, accounts or holds."""

from typing import Final

from apps.core.invariants import Walk

# The first organisation of entries or postings after one, without reading those of any.
_NEXT_OWNER: Final = """
    SELECT organization_id
      FROM ((SELECT organization_id FROM ledger_journal_entry
              WHERE organization_id > %(after)s ORDER BY organization_id LIMIT 1)
            UNION ALL
            (SELECT organization_id FROM ledger_posting
              WHERE organization_id > %(after)s ORDER BY organization_id LIMIT 1)
            UNION ALL
            (SELECT organization_id FROM ledger_balance
              WHERE organization_id > %(after)s ORDER BY organization_id LIMIT 1)) AS owners
     ORDER BY organization_id LIMIT 1
"""
# So many entries as make about as many postings.
_ENTRIES: Final = """
    SELECT id FROM (SELECT id FROM ledger_journal_entry
                     WHERE organization_id = %(org)s AND id > %(after)s
                     ORDER BY id LIMIT GREATEST(%(limit)s / 2, 1)) AS portion
     ORDER BY id DESC LIMIT 1
"""
# Accounts, until they have so many postings together; at least one.
_ACCOUNTS: Final = """
    SELECT id FROM (SELECT id, SUM(version) OVER (ORDER BY id) - version AS before
                      FROM (SELECT id, version FROM ledger_balance
                             WHERE organization_id = %(org)s AND id > %(after)s
                             ORDER BY id LIMIT %(limit)s) AS next) AS portion
     WHERE before < %(limit)s ORDER BY id DESC LIMIT 1
"""
# The first organisation of holds, or of events of holds that may be gone.
_NEXT_HOLDER: Final = """
    SELECT organization_id
      FROM ((SELECT organization_id FROM ledger_hold
              WHERE organization_id > %(after)s ORDER BY organization_id LIMIT 1)
            UNION ALL
            (SELECT organization_id FROM ledger_hold_event
              WHERE organization_id > %(after)s ORDER BY organization_id LIMIT 1)) AS owners
     ORDER BY organization_id LIMIT 1
"""
# So many holds as have about as many events: most are placed, and end once.
_HOLDS: Final = """
    SELECT id FROM (SELECT id FROM ledger_hold
                     WHERE organization_id = %(org)s AND id > %(after)s
                     ORDER BY id LIMIT GREATEST(%(limit)s / 2, 1)) AS portion
     ORDER BY id DESC LIMIT 1
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
