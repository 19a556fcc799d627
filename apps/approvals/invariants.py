"""SQL that must return no row."""

from typing import Final

INVARIANTS: Final = {
    "approvals: nobody decided what they asked for": """
        SELECT decision.id
          FROM approvals_decision decision
          JOIN approvals_request request
            ON request.organization_id = decision.organization_id
           AND request.id = decision.request_id
         WHERE decision.decided_by = request.requester_principal
    """,
    "approvals: every decision is about what was asked": """
        SELECT decision.id
          FROM approvals_decision decision
          JOIN approvals_request request
            ON request.organization_id = decision.organization_id
           AND request.id = decision.request_id
         WHERE decision.snapshot_digest <> request.snapshot_digest
    """,
    "approvals: an approved request has as many approvals as it asked for": """
        SELECT request.id
          FROM approvals_request request
         WHERE request.state = 'approved'
           AND (SELECT sum((step ->> 'count')::int) FROM jsonb_array_elements(request.steps) step)
             > (SELECT count(*) FROM approvals_decision decision
                 WHERE decision.organization_id = request.organization_id
                   AND decision.request_id = request.id
                   AND decision.verdict = 'approve')
    """,
    "approvals: a denied request has a denial": """
        SELECT request.id
          FROM approvals_request request
         WHERE request.state = 'denied'
           AND NOT EXISTS (
               SELECT FROM approvals_decision decision
                WHERE decision.organization_id = request.organization_id
                  AND decision.request_id = request.id
                  AND decision.verdict = 'deny')
    """,
}
