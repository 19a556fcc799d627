"""What must always hold between bank and books: SQL that returns no row."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "bank_ledger_account_is_its_lines_and_opening": """
        SELECT a.organization_id, a.id AS bank_account_id,
               b.posted_debits - b.posted_credits AS ledger_minor,
               COALESCE(l.total, 0) + COALESCE(o.amount_minor, 0) AS bank_minor
          FROM banking_account a
          JOIN ledger_balance b
            ON b.organization_id = a.organization_id AND b.id = a.ledger_account_id
          LEFT JOIN (SELECT s.organization_id, s.bank_account_id, SUM(l.amount_minor) AS total
                       FROM banking_line_status s
                       JOIN banking_line l
                         ON l.organization_id = s.organization_id AND l.id = s.line_id
                      WHERE s.state IN ('matched', 'in_suspense')
                      GROUP BY s.organization_id, s.bank_account_id) AS l
            ON l.organization_id = a.organization_id AND l.bank_account_id = a.id
          LEFT JOIN reconciliation_opening o
            ON o.organization_id = a.organization_id AND o.bank_account_id = a.id
           AND o.state = 'accepted'
         WHERE b.posted_debits - b.posted_credits
               <> COALESCE(l.total, 0) + COALESCE(o.amount_minor, 0)
    """,
    "matched_line_has_matches_of_its_amount": """
        SELECT s.organization_id, s.line_id, l.amount_minor, COALESCE(SUM(m.amount_minor), 0)
          FROM banking_line_status s
          JOIN banking_line l ON l.organization_id = s.organization_id AND l.id = s.line_id
          LEFT JOIN reconciliation_match m
            ON m.organization_id = s.organization_id AND m.bank_line_id = s.line_id
           AND m.state = 'live'
         WHERE s.state = 'matched'
         GROUP BY s.organization_id, s.line_id, l.amount_minor
        HAVING COALESCE(SUM(m.amount_minor), 0) <> l.amount_minor
    """,
    "match_has_a_target": """
        SELECT m.organization_id, m.id
          FROM reconciliation_match m
         WHERE NOT EXISTS (SELECT FROM reconciliation_match_leg g
                            WHERE g.organization_id = m.organization_id AND g.match_id = m.id)
    """,
    "target_has_one_live_match": """
        SELECT g.organization_id, g.target_kind, g.target_id
          FROM reconciliation_match_leg g
          JOIN reconciliation_match m
            ON m.organization_id = g.organization_id AND m.id = g.match_id AND m.state = 'live'
         GROUP BY g.organization_id, g.target_kind, g.target_id
        HAVING COUNT(*) > 1
    """,
    "line_in_suspense_has_an_open_break": """
        SELECT s.organization_id, s.line_id
          FROM banking_line_status s
         WHERE s.state = 'in_suspense'
           AND NOT EXISTS (SELECT FROM reconciliation_break b
                            WHERE b.organization_id = s.organization_id
                              AND b.bank_line_id = s.line_id AND b.state <> 'resolved')
    """,
    "payment_is_matched_to_its_line": """
        SELECT p.organization_id, p.id
          FROM payments_payment p
         WHERE p.method = 'bank_transfer'
           AND NOT EXISTS (SELECT FROM reconciliation_match_leg g
                             JOIN reconciliation_match m
                               ON m.organization_id = g.organization_id AND m.id = g.match_id
                            WHERE g.organization_id = p.organization_id
                              AND g.target_kind = 'payment' AND g.target_id = p.id
                              AND m.bank_line_id = p.bank_line_id)
    """,
}
