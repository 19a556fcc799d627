"""What `verify_ledger` recounts besides: totals that were stored, from the postings themselves."""

from typing import Final

from apps.core.invariants import Invariant
from apps.ledger.invariants._walks import by_accounts, by_entries

RECOUNTS: Final[dict[str, Invariant]] = {
    "ledger_month_is_what_was_sealed": by_accounts("""
        SELECT COALESCE(t.organization_id, s.organization_id) AS organization_id,
               kassa_public_id('la', COALESCE(t.account_id, s.account_id)) AS account,
               COALESCE(t.clock, s.clock) AS clock, COALESCE(t.month, s.month) AS month,
               t.debits_minor, s.debits, t.credits_minor, s.credits, t.postings, s.count
          FROM (SELECT * FROM ledger_monthly_total
                 WHERE organization_id = %(org)s
                   AND account_id > %(after)s AND account_id <= %(upto)s) t
          FULL JOIN (
                SELECT counted.organization_id, counted.account_id, time.clock, time.month,
                       SUM(debits) AS debits, SUM(credits) AS credits, SUM(count) AS count,
                       MIN(first) AS first, MAX(last) AS last
                  FROM (SELECT p.organization_id, p.account_id,
                               date_trunc('month', p.effective_at, 'UTC')::date AS effective,
                               date_trunc('month', p.recorded_at, 'UTC')::date AS recorded,
                               COALESCE(SUM(p.amount_minor) FILTER (WHERE p.amount_minor > 0), 0)
                                   AS debits,
                               COALESCE(-SUM(p.amount_minor) FILTER (WHERE p.amount_minor < 0), 0)
                                   AS credits,
                               COUNT(*) AS count, MIN(p.account_version) AS first,
                               MAX(p.account_version) AS last
                          FROM ledger_posting p
                          JOIN ledger_chain_link l
                            ON l.organization_id = p.organization_id AND l.entry_id = p.entry_id
                         WHERE p.organization_id = %(org)s
                           AND p.account_id > %(after)s AND p.account_id <= %(upto)s
                         GROUP BY 1, 2, 3, 4) AS counted
                 CROSS JOIN LATERAL (VALUES ('effective', effective), ('recorded', recorded))
                       AS time(clock, month)
                 GROUP BY 1, 2, 3, 4) s
            ON s.organization_id = t.organization_id AND s.account_id = t.account_id
           AND s.clock = t.clock AND s.month = t.month
         WHERE t.account_id IS NULL OR s.account_id IS NULL
            OR t.debits_minor <> s.debits OR t.credits_minor <> s.credits
            OR t.postings <> s.count OR t.first_version <> s.first OR t.last_version <> s.last
         ORDER BY COALESCE(t.account_id, s.account_id), month, clock
    """),
    # A posting belongs to the first closed month that ends after it; what lies before that month
    # began is in its opening balance, with all of the months before. A closed month takes nothing,
    # so what was stored as it was closed the last time stands for good. Months in which an account
    # did not move are added to the others, and not joined: their number the planner can only guess.
    "ledger_closed_month_is_what_was_stored": by_accounts("""
        WITH closed AS (
            SELECT month, closings, starts_at, ends_at,
                   ROW_NUMBER() OVER (ORDER BY month) - 1 AS place
              FROM ledger_period WHERE organization_id = %(org)s AND state = 'closed'
        ), bounds AS (
            SELECT array_agg(ends_at ORDER BY place) AS ends, MAX(ends_at) AS last
              FROM closed HAVING COUNT(*) > 0
        ), moved AS (
            SELECT p.account_id, c.place,
                   SUM(p.amount_minor) AS net,
                   COALESCE(SUM(p.amount_minor) FILTER (
                       WHERE p.amount_minor > 0 AND p.effective_at >= c.starts_at), 0) AS debits,
                   COALESCE(-SUM(p.amount_minor) FILTER (
                       WHERE p.amount_minor < 0 AND p.effective_at >= c.starts_at), 0) AS credits
              FROM bounds b
              JOIN ledger_posting p
                ON p.organization_id = %(org)s AND p.effective_at < b.last
               AND p.account_id > %(after)s AND p.account_id <= %(upto)s
              JOIN closed c ON c.place = width_bucket(p.effective_at, b.ends)
             GROUP BY p.account_id, c.place
        ), each_month AS (
            SELECT account_id, place, SUM(net) AS net, SUM(debits) AS debits,
                   SUM(credits) AS credits
              FROM (SELECT * FROM moved
                     UNION ALL
                    SELECT a.account_id, c.place, 0, 0, 0
                      FROM (SELECT DISTINCT account_id FROM moved) a CROSS JOIN closed c) AS lines
             GROUP BY account_id, place
        ), counted AS (
            SELECT m.account_id, c.month, m.debits, m.credits,
                   SUM(m.net) OVER (PARTITION BY m.account_id ORDER BY m.place)
                       - m.debits + m.credits AS opening
              FROM each_month m JOIN closed c ON c.place = m.place
        ), stored AS (
            SELECT s.* FROM closed c
              JOIN ledger_period_balance s
                ON s.organization_id = %(org)s AND s.month = c.month AND s.closing = c.closings
               AND s.account_id > %(after)s AND s.account_id <= %(upto)s
        )
        SELECT %(org)s::uuid AS organization_id,
               kassa_public_id('la', COALESCE(n.account_id, s.account_id)) AS account,
               to_char(COALESCE(n.month, s.month), 'YYYY-MM') AS period,
               s.opening_minor, n.opening, s.debits_minor, n.debits, s.credits_minor, n.credits
          FROM counted n
          FULL JOIN stored s ON s.account_id = n.account_id AND s.month = n.month
         WHERE COALESCE(s.opening_minor, 0) <> COALESCE(n.opening, 0)
            OR COALESCE(s.debits_minor, 0) <> COALESCE(n.debits, 0)
            OR COALESCE(s.credits_minor, 0) <> COALESCE(n.credits, 0)
         ORDER BY COALESCE(n.month, s.month), COALESCE(n.account_id, s.account_id)
    """),
    # Without its row a month would be open again, and nothing of it compared with what was stored.
    # The stored lines of a month are many, and one is enough: each step finds the next month or
    # closing in the primary key, and none reads those between.
    "ledger_stored_month_has_its_period": """
        WITH RECURSIVE stored AS (
            (SELECT organization_id, month, closing FROM ledger_period_balance
              ORDER BY organization_id, month, closing LIMIT 1)
            UNION ALL
            SELECT next.organization_id, next.month, next.closing
              FROM stored s
             CROSS JOIN LATERAL (
                   SELECT b.organization_id, b.month, b.closing FROM ledger_period_balance b
                    WHERE (b.organization_id, b.month, b.closing)
                        > (s.organization_id, s.month, s.closing)
                    ORDER BY b.organization_id, b.month, b.closing LIMIT 1) AS next
        )
        SELECT s.organization_id, to_char(s.month, 'YYYY-MM') AS period, s.closing, p.closings
          FROM stored s
          LEFT JOIN ledger_period p
            ON p.organization_id = s.organization_id AND p.month = s.month
         WHERE p.month IS NULL OR p.closings < s.closing
         ORDER BY s.organization_id, s.month, s.closing
    """,
    # Only an exchange posts entries of this kind; where its row is gone, nobody could undo it.
    # While a journal is imported, exchanges come after entries, and no account is a client's yet.
    "ledger_entry_of_an_exchange_has_it": by_entries("""
        SELECT e.organization_id, kassa_public_id('je', e.id) AS entry
          FROM ledger_journal_entry e
         WHERE e.organization_id = %(org)s AND e.id > %(after)s AND e.id <= %(upto)s
           AND e.kind = 'fx'
           AND NOT EXISTS (SELECT FROM ledger_fx_transfer f
                            WHERE f.organization_id = e.organization_id
                              AND f.sold_entry_id = e.id)
           AND NOT EXISTS (SELECT FROM ledger_fx_transfer f
                            WHERE f.organization_id = e.organization_id
                              AND f.bought_entry_id = e.id)
           AND EXISTS (SELECT FROM ledger_posting p
                         JOIN ledger_balance b
                           ON b.organization_id = p.organization_id AND b.id = p.account_id
                        WHERE p.organization_id = e.organization_id AND p.entry_id = e.id
                          AND NOT b.internal)
         ORDER BY e.id
    """),
    # Sums over all accounts are made of these, so they are what the months of accounts come to.
    "ledger_type_total_is_what_its_months_come_to": """
        SELECT COALESCE(t.organization_id, s.organization_id) AS organization_id,
               COALESCE(t.clock, s.clock) AS clock, COALESCE(t.month, s.month) AS month,
               COALESCE(t.currency, s.currency) AS currency, COALESCE(t.type, s.type) AS type,
               t.debits_minor, s.debits, t.credits_minor, s.credits, t.postings, s.count
          FROM ledger_type_total t
          FULL JOIN (SELECT m.organization_id, m.clock, m.month, a.currency, a.type,
                            SUM(m.debits_minor) AS debits, SUM(m.credits_minor) AS credits,
                            SUM(m.postings) AS count
                       FROM ledger_monthly_total m
                       JOIN ledger_account a
                         ON a.organization_id = m.organization_id AND a.id = m.account_id
                      GROUP BY 1, 2, 3, 4, 5) s
            ON s.organization_id = t.organization_id AND s.clock = t.clock AND s.month = t.month
           AND s.currency = t.currency AND s.type = t.type
         WHERE t.debits_minor IS DISTINCT FROM s.debits
            OR t.credits_minor IS DISTINCT FROM s.credits
            OR t.postings IS DISTINCT FROM s.count
         ORDER BY 1, 2, 3, 4, 5
    """,
}
