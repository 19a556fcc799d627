"""What must always hold of corrections by hand: SQL that returns no row."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    # An exchange is undone by two entries of one act; it may have been undone by halves (ADR 0128).
    "correction_posted_what_was_asked_for": """
        SELECT c.organization_id, c.id
          FROM backoffice_correction c
         WHERE c.state = 'posted'
           AND (SELECT jsonb_agg(jsonb_build_array(a.code, p.amount_minor, p.currency)
                                 ORDER BY a.code)
                  FROM ledger_posting p
                  JOIN ledger_account a
                    ON a.organization_id = p.organization_id AND a.id = p.account_id
                 WHERE p.organization_id = c.organization_id
                   AND p.entry_id IN (
                       SELECT c.posted_id UNION ALL
                       SELECT r.id FROM ledger_fx_transfer f
                         JOIN ledger_journal_entry r
                           ON r.organization_id = f.organization_id
                          AND r.reverses_id IN (f.sold_entry_id, f.bought_entry_id)
                          AND r.reverses_id <> c.entry_id
                         JOIN ledger_journal_entry posted
                           ON posted.organization_id = c.organization_id
                          AND posted.id = c.posted_id
                          AND posted.recorded_at = r.recorded_at
                        WHERE f.organization_id = c.organization_id
                          AND c.entry_id IN (f.sold_entry_id, f.bought_entry_id)))
               IS DISTINCT FROM
               (SELECT jsonb_agg(jsonb_build_array(leg -> 'code', leg -> 'amount_minor',
                                                   leg -> 'currency')
                                 ORDER BY leg ->> 'code')
                  FROM jsonb_array_elements(c.legs) AS leg)
    """,
    "correction_posted_undoes_its_entry": """
        SELECT c.organization_id, c.id
          FROM backoffice_correction c
          JOIN ledger_journal_entry e
            ON e.organization_id = c.organization_id AND e.id = c.posted_id
         WHERE e.reverses_id IS DISTINCT FROM c.entry_id
    """,
    "correction_waits_for_somebody": """
        SELECT c.organization_id, c.id
          FROM backoffice_correction c
         WHERE (c.state = 'waiting') <> EXISTS (
               SELECT FROM approvals_request r
                WHERE r.organization_id = c.organization_id AND r.subject_type = 'correction'
                  AND r.subject_id = c.id AND r.state = 'open')
    """,
}
