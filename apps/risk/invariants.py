"""SQL that must return no row."""

from typing import Final

INVARIANTS: Final = {
    "risk: every counted act was let in by a decision": """
        SELECT fact.id
          FROM risk_fact fact
         WHERE fact.state <> 'refused'
           AND NOT EXISTS (
               SELECT FROM risk_decision decision
                WHERE decision.organization_id = fact.organization_id
                  AND decision.kind = fact.kind
                  AND decision.subject_type = fact.subject_type
                  AND decision.subject_id = fact.subject_id
                  AND decision.outcome = 'approve')
    """,
    "risk: no decision approves what a limit refused": """
        SELECT decision.id
          FROM risk_decision decision, jsonb_array_elements(decision.limits) applied
         WHERE decision.outcome = 'approve'
           AND (applied ->> 'max')::bigint
             < (applied ->> 'used')::bigint + (applied ->> 'requested')::bigint
    """,
    "risk: what a customer's limit counts stays below it unless it was lowered": """
        SELECT one.id
          FROM risk_limit one
          JOIN risk_fact fact
            ON fact.organization_id = one.organization_id AND fact.kind = one.act
           AND fact.currency = one.currency AND fact.state IN ('open', 'done', 'returned')
           AND (one.customer_id IS NULL OR fact.customer_id = one.customer_id)
           AND fact.occurred_at >= one.set_at
         WHERE one.ended_at IS NULL AND one.scope IN ('customer', 'each_customer')
           AND one.max_amount_minor IS NOT NULL
         GROUP BY one.id, one.max_amount_minor, fact.customer_id,
                  (fact.occurred_at AT TIME ZONE one.zone)::date
        HAVING sum(fact.amount_minor - CASE WHEN one.net_of_returns
                                            THEN fact.returned_minor ELSE 0 END)
             > one.max_amount_minor
    """,
}
