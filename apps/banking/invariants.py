"""What must always hold of what banks told us: SQL that returns no row."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "bank_statement_adds_up": """
        SELECT s.organization_id, s.id, s.base_minor, COALESCE(SUM(l.amount_minor), 0) AS moved,
               s.closing_minor
          FROM banking_statement s
          LEFT JOIN banking_line l
            ON l.organization_id = s.organization_id AND l.statement_id = s.id AND l.is_booked
         WHERE s.source = 'statement' AND s.state = 'imported'
         GROUP BY s.organization_id, s.id, s.base_minor, s.closing_minor
        HAVING s.base_minor + COALESCE(SUM(l.amount_minor), 0) <> s.closing_minor
    """,
    "bank_statement_begins_where_the_one_before_ends": """
        SELECT s.organization_id, s.id, p.closing_minor, s.opening_minor
          FROM banking_statement s
          JOIN banking_statement p
            ON p.organization_id = s.organization_id AND p.id = s.previous_id
         WHERE p.closing_minor <> s.opening_minor OR p.bank_account_id <> s.bank_account_id
    """,
    "bank_line_has_a_status": """
        SELECT l.organization_id, l.id
          FROM banking_line l
         WHERE NOT EXISTS (SELECT FROM banking_line_status s
                            WHERE s.organization_id = l.organization_id AND s.line_id = l.id)
    """,
    "bank_line_posts_once_to_its_account": """
        SELECT s.organization_id, s.line_id, s.entry_id, l.amount_minor
          FROM banking_line_status s
          JOIN banking_line l ON l.organization_id = s.organization_id AND l.id = s.line_id
          JOIN banking_account a
            ON a.organization_id = s.organization_id AND a.id = s.bank_account_id
         WHERE s.state IN ('matched', 'in_suspense')
           AND NOT EXISTS (SELECT FROM ledger_posting p
                            WHERE p.organization_id = s.organization_id
                              AND p.entry_id = s.entry_id
                              AND p.account_id = a.ledger_account_id
                              AND p.currency = l.currency
                              AND p.amount_minor = l.amount_minor)
    """,
    "line_that_says_the_same_is_known": """
        SELECT l.organization_id, l.id
          FROM banking_line l
          JOIN banking_line_status s ON s.organization_id = l.organization_id AND s.line_id = l.id
         WHERE (l.same_as_id IS NOT NULL OR NOT l.is_booked) AND s.state <> 'known'
    """,
    "new_lines_are_queued": """
        SELECT s.organization_id, s.bank_account_id
          FROM banking_line_status s
          JOIN banking_line_queue q
            ON q.organization_id = s.organization_id AND q.bank_account_id = s.bank_account_id
         WHERE s.state = 'new' AND q.state = 'done'
         GROUP BY s.organization_id, s.bank_account_id
    """,
}
