"""What must always hold in the books: SQL that returns no row. Each row names what is wrong."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "ledger_entry_sums_to_zero": """
        SELECT p.organization_id, p.entry_id, p.currency, SUM(p.amount_minor) AS residue
          FROM ledger_posting p
         GROUP BY p.organization_id, p.entry_id, p.currency
        HAVING SUM(p.amount_minor) <> 0
         ORDER BY p.entry_id
    """,
    "ledger_entry_has_postings": """
        SELECT e.organization_id, e.id AS entry_id
          FROM ledger_journal_entry e
         WHERE NOT EXISTS (SELECT FROM ledger_posting p
                            WHERE p.organization_id = e.organization_id AND p.entry_id = e.id)
         ORDER BY e.id
    """,
    "ledger_posting_has_its_entry_and_account": """
        SELECT p.organization_id, p.entry_id, p.number, p.account_id
          FROM ledger_posting p
          LEFT JOIN ledger_journal_entry e
            ON e.organization_id = p.organization_id AND e.id = p.entry_id
          LEFT JOIN ledger_account a
            ON a.organization_id = p.organization_id AND a.id = p.account_id
           AND a.currency = p.currency
         WHERE e.id IS NULL OR a.id IS NULL
         ORDER BY p.entry_id, p.number
    """,
    "ledger_versions_have_no_gap": """
        SELECT organization_id, account_id, entry_id, account_version, place
          FROM (SELECT organization_id, account_id, entry_id, account_version,
                       row_number() OVER (PARTITION BY organization_id, account_id
                                          ORDER BY account_version) AS place
                  FROM ledger_posting) AS numbered
         WHERE account_version <> place
         ORDER BY account_id, account_version
    """,
    # The running balance is on the normal side, so an amount changed by hand shows at its row.
    "ledger_running_balance_follows_postings": """
        SELECT organization_id, account_id, entry_id, account_version, balance_after_minor, running
          FROM (SELECT p.organization_id, p.account_id, p.entry_id, p.account_version,
                       p.balance_after_minor,
                       SUM(CASE WHEN b.credit_normal THEN -p.amount_minor ELSE p.amount_minor END)
                           OVER (PARTITION BY p.organization_id, p.account_id
                                 ORDER BY p.account_version) AS running
                  FROM ledger_posting p
                  JOIN ledger_balance b
                    ON b.organization_id = p.organization_id AND b.id = p.account_id) AS summed
         WHERE balance_after_minor <> running
         ORDER BY account_id, account_version
    """,
    "ledger_balance_equals_its_postings": """
        SELECT b.organization_id, b.id AS account_id, b.posted_debits, b.posted_credits,
               COALESCE(p.debits, 0) AS debits, COALESCE(p.credits, 0) AS credits
          FROM ledger_balance b
          LEFT JOIN (SELECT organization_id, account_id, COUNT(*) AS postings,
                            COALESCE(SUM(amount_minor) FILTER (WHERE amount_minor > 0), 0)
                                AS debits,
                            COALESCE(-SUM(amount_minor) FILTER (WHERE amount_minor < 0), 0)
                                AS credits
                       FROM ledger_posting GROUP BY organization_id, account_id) p
            ON p.organization_id = b.organization_id AND p.account_id = b.id
         WHERE b.posted_debits <> COALESCE(p.debits, 0)
            OR b.posted_credits <> COALESCE(p.credits, 0)
            OR b.version <> COALESCE(p.postings, 0)
         ORDER BY b.id
    """,
    "ledger_pending_equals_open_holds": """
        SELECT b.organization_id, b.id AS account_id, b.pending_debits, b.pending_credits
          FROM ledger_balance b
          LEFT JOIN (SELECT organization_id, debit_account_id AS account_id,
                            SUM(amount_minor) AS held
                       FROM ledger_hold WHERE status = 'open' GROUP BY 1, 2) d
            ON d.organization_id = b.organization_id AND d.account_id = b.id
          LEFT JOIN (SELECT organization_id, credit_account_id AS account_id,
                            SUM(amount_minor) AS held
                       FROM ledger_hold WHERE status = 'open' GROUP BY 1, 2) c
            ON c.organization_id = b.organization_id AND c.account_id = b.id
         WHERE b.pending_debits <> COALESCE(d.held, 0)
            OR b.pending_credits <> COALESCE(c.held, 0)
         ORDER BY b.id
    """,
    "ledger_hold_agrees_with_its_history": """
        SELECT h.organization_id, h.id AS hold_id, h.status, v.kind, h.captured_minor
          FROM ledger_hold h
          LEFT JOIN ledger_hold_event v
            ON v.organization_id = h.organization_id AND v.hold_id = h.id AND v.terminal
         WHERE h.status <> COALESCE(v.kind, 'open')
            OR h.captured_minor <> CASE v.kind WHEN 'captured' THEN v.amount_minor ELSE 0 END
         ORDER BY h.id
    """,
    "ledger_account_has_its_balance": """
        SELECT COALESCE(a.organization_id, b.organization_id) AS organization_id,
               COALESCE(a.id, b.id) AS account_id
          FROM ledger_account a
          FULL JOIN ledger_balance b ON b.organization_id = a.organization_id AND b.id = a.id
         WHERE a.id IS NULL OR b.id IS NULL OR b.currency <> a.currency
            OR b.credit_normal <> (a.type IN ('liability', 'equity', 'income'))
         ORDER BY account_id
    """,
    "ledger_trial_balance_is_zero": """
        SELECT organization_id, currency, SUM(posted_debits) AS debits,
               SUM(posted_credits) AS credits
          FROM ledger_balance GROUP BY organization_id, currency
        HAVING SUM(posted_debits) <> SUM(posted_credits)
    """,
    # Events are kept for a time; older entries had theirs. An event whose entry is gone is a fault
    # at any age: that is how an entry shows that was taken out with all its traces in the books.
    "ledger_entry_has_its_event": """
        SELECT COALESCE(e.organization_id, v.organization_id) AS organization_id,
               e.id AS entry_id, v.aggregate_id AS event_of
          FROM ledger_journal_entry e
          FULL JOIN (SELECT organization_id, aggregate_id FROM core_outbox_event
                      WHERE name = 'ledger.journal_entry.posted') v
            ON v.organization_id = e.organization_id
           AND v.aggregate_id = kassa_public_id('je', e.id)
         WHERE e.id IS NULL
            OR (v.aggregate_id IS NULL AND e.recorded_at > now() - interval '89 days')
         ORDER BY e.id, v.aggregate_id
    """,
}
