"""SQL that must return no row."""

from typing import Final

from apps.payouts.states import PAYOUT_MOVES

_PAIRS: Final = ", ".join(
    f"('{old}', '{new}')" for old, news in PAYOUT_MOVES.items() for new in sorted(news)
)

INVARIANTS: Final = {
    "payouts: what waits holds its amount": """
        SELECT payout.id
          FROM payouts_payout payout
          LEFT JOIN ledger_hold hold
            ON hold.organization_id = payout.organization_id AND hold.id = payout.hold_id
         WHERE payout.state IN ('requested', 'held', 'pending_approval', 'approved', 'scheduled',
                                'batched')
           AND (hold.status IS DISTINCT FROM 'open'
                OR hold.amount_minor IS DISTINCT FROM payout.amount_minor)
    """,
    "payouts: what waits holds its fee": """
        SELECT payout.id
          FROM payouts_payout payout
          LEFT JOIN ledger_hold hold
            ON hold.organization_id = payout.organization_id AND hold.id = payout.fee_hold_id
         WHERE payout.state IN ('requested', 'held', 'pending_approval', 'approved', 'scheduled',
                                'batched')
           AND payout.fee_minor > 0
           AND (hold.status IS DISTINCT FROM 'open'
                OR hold.amount_minor IS DISTINCT FROM payout.fee_minor)
    """,
    "payouts: what ended or left holds nothing": """
        SELECT payout.id
          FROM payouts_payout payout
          JOIN ledger_hold hold
            ON hold.organization_id = payout.organization_id
           AND hold.id IN (payout.hold_id, payout.fee_hold_id)
         WHERE payout.state IN ('submitted', 'settled', 'partly_settled', 'rejected', 'returned',
                                'declined', 'denied', 'canceled')
           AND hold.status = 'open'
    """,
    "payouts: live attempts claim no more than the payout": """
        SELECT payout.id
          FROM payouts_payout payout
          JOIN payouts_attempt attempt
            ON attempt.organization_id = payout.organization_id AND attempt.payout_id = payout.id
         WHERE attempt.state NOT IN ('rejected', 'returned', 'not_sent')
         GROUP BY payout.id, payout.amount_minor
        HAVING sum(attempt.amount_minor) > payout.amount_minor
    """,
    "payouts: settled is settled attempts of exactly its amount": """
        SELECT payout.id
          FROM payouts_payout payout
         WHERE payout.state = 'settled'
           AND payout.amount_minor <> (
               SELECT coalesce(sum(attempt.amount_minor), 0) FROM payouts_attempt attempt
                WHERE attempt.organization_id = payout.organization_id
                  AND attempt.payout_id = payout.id AND attempt.state = 'settled')
    """,
    "payouts: a settled attempt has its line and its entry": """
        SELECT attempt.id
          FROM payouts_attempt attempt
          LEFT JOIN ledger_journal_entry entry
            ON entry.organization_id = attempt.organization_id
           AND entry.id = attempt.settle_entry_id
         WHERE attempt.state IN ('settled', 'returned')
           AND (entry.id IS NULL OR attempt.settled_line_id IS NULL)
    """,
    "payouts: in transit is what was captured and neither settled nor reversed": """
        SELECT account.code, balance.posted_credits - balance.posted_debits AS books,
               coalesce(moving.total, 0) AS attempts
          FROM ledger_account account
          JOIN ledger_balance balance
            ON balance.organization_id = account.organization_id AND balance.id = account.id
          LEFT JOIN (
               SELECT organization_id, currency, sum(amount_minor) AS total
                 FROM payouts_attempt
                WHERE capture_entry_id IS NOT NULL AND state IN ('submitted', 'unknown')
                GROUP BY organization_id, currency) moving
            ON moving.organization_id = account.organization_id
           AND moving.currency = account.currency
         WHERE account.code = 'payouts:in_transit:' || account.currency
           AND balance.posted_credits - balance.posted_debits <> coalesce(moving.total, 0)
    """,
    "payouts: a batch's sums are its attempts'": """
        SELECT batch.id
          FROM payouts_batch batch
          LEFT JOIN payouts_attempt attempt
            ON attempt.organization_id = batch.organization_id AND attempt.batch_id = batch.id
         GROUP BY batch.id, batch.attempt_count, batch.total_minor
        HAVING count(attempt.id) <> batch.attempt_count
            OR coalesce(sum(attempt.amount_minor), 0) <> batch.total_minor
    """,
    "payouts: a batch's file is the one that was stored": """
        SELECT batch.id
          FROM payouts_batch batch
          LEFT JOIN banking_file file
            ON file.organization_id = batch.organization_id AND file.id = batch.file_id
         WHERE batch.file_id IS NOT NULL
           AND (file.sha256 IS DISTINCT FROM batch.file_sha256
                OR file.message_id IS DISTINCT FROM batch.message_id)
    """,
    "payouts: what is in a file was agreed to as it is": """
        SELECT payout.id
          FROM payouts_payout payout
          LEFT JOIN approvals_request request
            ON request.organization_id = payout.organization_id
           AND request.id = payout.approval_request_id
         WHERE payout.state IN ('scheduled', 'batched', 'submitted', 'unknown', 'settled')
           AND (payout.agreed_digest IS NULL
                OR (request.id IS NOT NULL
                    AND request.state = 'approved'
                    AND request.snapshot_digest <> payout.agreed_digest))
    """,
    "payouts: history holds no move outside the table": f"""
        SELECT transition.id
          FROM payouts_transition transition
         WHERE NOT (transition.from_state = '' AND transition.to_state = 'requested'
                    AND transition.number = 1)
           AND (transition.from_state, transition.to_state) NOT IN ({_PAIRS})
    """,  # noqa: S608  (the table of moves is this app's own constant)
    "payouts: the last word of history is the payout's state": """
        SELECT payout.id
          FROM payouts_payout payout
          LEFT JOIN LATERAL (
               SELECT to_state FROM payouts_transition transition
                WHERE transition.organization_id = payout.organization_id
                  AND transition.payout_id = payout.id
                ORDER BY number DESC LIMIT 1) last ON true
         WHERE last.to_state IS DISTINCT FROM payout.state
    """,
    "payouts: risk counts a payout as what it is": """
        SELECT payout.id
          FROM payouts_payout payout
          LEFT JOIN risk_fact fact
            ON fact.organization_id = payout.organization_id AND fact.subject_type = 'payout'
           AND fact.subject_id = payout.id AND fact.turn = 0
         WHERE fact.state IS DISTINCT FROM CASE
               WHEN payout.state IN ('declined', 'denied', 'canceled', 'rejected') THEN 'canceled'
               WHEN payout.state = 'returned' THEN 'returned'
               WHEN payout.state IN ('settled', 'partly_settled') THEN 'done'
               ELSE 'open' END
    """,
}
