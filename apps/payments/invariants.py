"""What must always hold of money that came in: SQL that returns no row."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "payment_credits_its_customer_once": """
        SELECT p.organization_id, p.id, p.amount_minor
          FROM payments_payment p
          LEFT JOIN payments_virtual_reference v
            ON v.organization_id = p.organization_id AND v.id = p.virtual_reference_id
         WHERE p.method = 'bank_transfer'
           AND NOT EXISTS (SELECT FROM ledger_posting l
                            WHERE l.organization_id = p.organization_id
                              AND l.entry_id = p.entry_id
                              AND l.account_id = v.ledger_account_id
                              AND l.currency = p.currency
                              AND l.amount_minor = -p.amount_minor)
    """,
    "payment_is_of_its_reference_s_customer": """
        SELECT p.organization_id, p.id
          FROM payments_payment p
          JOIN payments_virtual_reference v
            ON v.organization_id = p.organization_id AND v.id = p.virtual_reference_id
         WHERE v.customer_id <> p.customer_id OR v.currency <> p.currency
    """,
    "unmatched_money_stands_in_suspense": """
        SELECT u.organization_id, u.id
          FROM payments_unmatched_money u
         WHERE NOT EXISTS (SELECT FROM ledger_posting l
                             JOIN ledger_account a
                               ON a.organization_id = l.organization_id AND a.id = l.account_id
                            WHERE l.organization_id = u.organization_id
                              AND l.entry_id = u.entry_id
                              AND a.code = 'suspense:in:' || u.currency
                              AND l.amount_minor <= -u.amount_minor)
    """,
    "money_that_came_is_a_payment_or_unmatched": """
        SELECT p.organization_id, p.id AS payment_id, u.id AS unmatched_id
          FROM payments_payment p
          JOIN payments_unmatched_money u
            ON u.organization_id = p.organization_id AND u.bank_line_id = p.bank_line_id
           AND u.bank_line_detail_id IS NOT DISTINCT FROM p.bank_line_detail_id
         WHERE u.payment_id IS DISTINCT FROM p.id
    """,
}
