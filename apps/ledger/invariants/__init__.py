"""
What must always hold in the books: SQL that returns no row. Each row names what is wrong.

`INVARIANTS` run on a schedule; `RECOUNTS` are run by `verify_ledger` besides, which also recomputes
the chains (`queries.find_chain_fault`). What reads every posting is walked: by the entries' ids, or
by the accounts', of which one is never split, however many postings it has. So is what reads every
hold, with what happened to it.
"""

from typing import Final

from apps.core.invariants import Invariant, by_organization
from apps.ledger.invariants import _beside
from apps.ledger.invariants._recounts import RECOUNTS
from apps.ledger.invariants._walks import by_accounts, by_entries, by_holds

__all__ = ["INVARIANTS", "RECOUNTS"]

INVARIANTS: Final[dict[str, Invariant]] = {
    # Entries and their postings in one pass. Those of several currencies are looked at once more.
    "ledger_entry_is_whole": by_entries("""
        SELECT COALESCE(e.organization_id, p.organization_id) AS organization_id,
               kassa_public_id('je', COALESCE(e.id, p.entry_id)) AS entry,
               CASE WHEN e.id IS NULL THEN 'postings without their entry'
                    WHEN p.entry_id IS NULL THEN 'no postings'
                    WHEN p.residue <> 0 THEN 'sums to ' || p.residue
                    WHEN p.first <> 1 OR p.last <> p.count THEN 'numbers have a gap'
                    WHEN p.currency <> p.other_currency THEN 'not zero in each currency'
                    ELSE 'its postings have other times' END AS what
          FROM (SELECT * FROM ledger_journal_entry
                 WHERE organization_id = %(org)s AND id > %(after)s AND id <= %(upto)s) e
          FULL JOIN (SELECT organization_id, entry_id, SUM(amount_minor) AS residue,
                            COUNT(*) AS count, MIN(number) AS first, MAX(number) AS last,
                            MIN(currency) AS currency, MAX(currency) AS other_currency,
                            MIN(effective_at) AS effective_from, MAX(effective_at) AS effective_to,
                            MIN(recorded_at) AS recorded_from, MAX(recorded_at) AS recorded_to
                       FROM ledger_posting
                      WHERE organization_id = %(org)s
                        AND entry_id > %(after)s AND entry_id <= %(upto)s
                      GROUP BY organization_id, entry_id) p
            ON p.organization_id = e.organization_id AND p.entry_id = e.id
         WHERE e.id IS NULL OR p.entry_id IS NULL
            OR p.residue <> 0 OR p.first <> 1 OR p.last <> p.count
            OR p.effective_from <> e.effective_at OR p.effective_to <> e.effective_at
            OR p.recorded_from <> e.recorded_at OR p.recorded_to <> e.recorded_at
            OR (p.currency <> p.other_currency
                AND EXISTS (SELECT FROM ledger_posting c
                             WHERE c.organization_id = p.organization_id
                               AND c.entry_id = p.entry_id
                             GROUP BY c.currency HAVING SUM(c.amount_minor) <> 0))
         ORDER BY COALESCE(e.id, p.entry_id)
    """),
    # Postings of each account in their order, one pass: a version follows the one before, and the
    # balance after it, on the normal side, is the one before and this amount. What that comes to is
    # the balance row.
    "ledger_balance_follows_its_postings": by_accounts("""
        SELECT COALESCE(b.organization_id, p.organization_id) AS organization_id,
               kassa_public_id('la', COALESCE(b.id, p.account_id)) AS account,
               kassa_public_id('je', (SELECT c.entry_id FROM ledger_posting c
                                       WHERE c.organization_id = p.organization_id
                                         AND c.account_id = p.account_id
                                         AND c.account_version = wrong.version)) AS entry,
               wrong.version AS account_version,
               CASE WHEN b.id IS NULL THEN 'postings without a balance of their currency'
                    WHEN wrong.version IS NOT NULL
                    THEN 'version or balance after does not follow'
                    ELSE 'the balance is not what its postings come to' END AS what,
               b.version, p.postings, b.posted_debits, p.debits, b.posted_credits, p.credits
          FROM (SELECT * FROM ledger_balance
                 WHERE organization_id = %(org)s AND id > %(after)s AND id <= %(upto)s) b
          FULL JOIN (
                SELECT o.organization_id, o.account_id, o.currency, COUNT(*) AS postings,
                       COALESCE(SUM(o.amount_minor) FILTER (WHERE o.amount_minor > 0), 0) AS debits,
                       COALESCE(-SUM(o.amount_minor) FILTER (WHERE o.amount_minor < 0), 0)
                           AS credits,
                       MAX(o.effective_at) AS latest,
                       MIN(o.account_version) FILTER (
                           WHERE o.account_version <> o.version_before + 1
                              OR o.balance_after_minor - o.balance_before <> o.amount_minor)
                           AS wrong_of_debits,
                       MIN(o.account_version) FILTER (
                           WHERE o.account_version <> o.version_before + 1
                              OR o.balance_before - o.balance_after_minor <> o.amount_minor)
                           AS wrong_of_credits
                  FROM (SELECT organization_id, account_id, currency, amount_minor, effective_at,
                               account_version, balance_after_minor,
                               LAG(account_version, 1, 0::bigint) OVER by_version AS version_before,
                               LAG(balance_after_minor, 1, 0::bigint) OVER by_version
                                   AS balance_before
                          FROM ledger_posting
                         WHERE organization_id = %(org)s
                           AND account_id > %(after)s AND account_id <= %(upto)s
                        WINDOW by_version AS (PARTITION BY organization_id, account_id
                                              ORDER BY account_version)) AS o
                 GROUP BY o.organization_id, o.account_id, o.currency) p
            ON p.organization_id = b.organization_id AND p.account_id = b.id
           AND p.currency = b.currency
         CROSS JOIN LATERAL (
               SELECT CASE WHEN b.credit_normal THEN p.wrong_of_credits
                           ELSE p.wrong_of_debits END AS version) AS wrong
         WHERE b.id IS NULL OR wrong.version IS NOT NULL
            OR b.version <> COALESCE(p.postings, 0)
            OR b.posted_debits <> COALESCE(p.debits, 0)
            OR b.posted_credits <> COALESCE(p.credits, 0)
            OR b.latest_effective_at IS DISTINCT FROM p.latest
         ORDER BY wrong.version IS NULL, COALESCE(b.id, p.account_id)
    """),
    # So many accounts at a time, since their postings are not read. Open holds are found by the
    # index of open ones, all of the organisation's: those that ended may be a thousand times more.
    "ledger_pending_equals_open_holds": by_organization(
        "ledger_balance",
        """
        SELECT b.organization_id, kassa_public_id('la', b.id) AS account,
               b.pending_debits, COALESCE(h.debits, 0) AS held_debits,
               b.pending_credits, COALESCE(h.credits, 0) AS held_credits
          FROM {rows} b
          LEFT JOIN (SELECT side.account_id, o.currency,
                            SUM(side.debits) AS debits, SUM(side.credits) AS credits
                       FROM ledger_hold o
                      CROSS JOIN LATERAL (VALUES
                            (o.debit_account_id, o.amount_minor - o.captured_minor, 0),
                            (o.credit_account_id, 0, o.amount_minor - o.captured_minor))
                            AS side(account_id, debits, credits)
                      WHERE o.organization_id = %(org)s AND o.status = 'open'
                        AND side.account_id > %(after)s AND side.account_id <= %(upto)s
                      GROUP BY side.account_id, o.currency) h
            ON h.account_id = b.id
         WHERE h.currency <> b.currency
            OR b.pending_debits <> COALESCE(h.debits, 0)
            OR b.pending_credits <> COALESCE(h.credits, 0)
         ORDER BY b.id
        """,
    ),
    # Whoever closes one finds it so, by a guard; nothing may come to it since.
    "ledger_closed_account_is_empty": by_organization(
        "ledger_balance",
        """
        SELECT b.organization_id, kassa_public_id('la', b.id) AS account,
               b.posted_debits, b.posted_credits, b.pending_debits, b.pending_credits
          FROM {rows} b
         WHERE b.status = 'closed'
           AND (b.posted_debits <> b.posted_credits
                OR b.pending_debits <> 0 OR b.pending_credits <> 0)
         ORDER BY b.id
        """,
    ),
    "ledger_hold_agrees_with_its_history": by_holds("""
        SELECT h.organization_id, kassa_public_id('ho', h.id) AS hold, h.status, v.ended,
               h.captured_minor, v.captured, v.released
          FROM (SELECT * FROM ledger_hold
                 WHERE organization_id = %(org)s AND id > %(after)s AND id <= %(upto)s) h
          LEFT JOIN (SELECT organization_id, hold_id, MAX(kind) FILTER (WHERE terminal) AS ended,
                            COALESCE(SUM(amount_minor) FILTER (WHERE kind = 'placed'), 0) AS placed,
                            COALESCE(SUM(amount_minor) FILTER (WHERE kind = 'captured'), 0)
                                AS captured,
                            SUM(amount_minor) FILTER (WHERE kind IN ('voided', 'expired'))
                                AS released
                       FROM ledger_hold_event
                      WHERE organization_id = %(org)s
                        AND hold_id > %(after)s AND hold_id <= %(upto)s
                      GROUP BY organization_id, hold_id) v
            ON v.organization_id = h.organization_id AND v.hold_id = h.id
         WHERE h.status <> COALESCE(v.ended, 'open')
            OR h.amount_minor IS DISTINCT FROM v.placed
            OR h.captured_minor <> v.captured
            OR v.released <> h.amount_minor - h.captured_minor
         ORDER BY h.id
    """),
    # The postings of an entry are summed for each capture, so they are found by the entry's key,
    # and never all read to be joined.
    "ledger_capture_is_posted": by_holds("""
        SELECT v.organization_id, kassa_public_id('ho', v.hold_id) AS hold,
               kassa_public_id('je', v.entry_id) AS entry, v.amount_minor,
               posted.debited, posted.credited
          FROM (SELECT * FROM ledger_hold_event
                 WHERE organization_id = %(org)s
                   AND hold_id > %(after)s AND hold_id <= %(upto)s) v
          LEFT JOIN (SELECT * FROM ledger_hold
                      WHERE organization_id = %(org)s AND id > %(after)s AND id <= %(upto)s) h
            ON h.organization_id = v.organization_id AND h.id = v.hold_id
         CROSS JOIN LATERAL (
               SELECT COALESCE(SUM(p.amount_minor)
                          FILTER (WHERE p.account_id = h.debit_account_id), 0) AS debited,
                      COALESCE(-SUM(p.amount_minor)
                          FILTER (WHERE p.account_id = h.credit_account_id), 0) AS credited
                 FROM ledger_posting p
                WHERE p.organization_id = v.organization_id AND p.entry_id = v.entry_id
                  AND p.currency = h.currency) AS posted
         WHERE h.id IS NULL
            OR (v.kind = 'captured' AND (v.amount_minor <> posted.debited
                                         OR v.amount_minor <> posted.credited))
            OR (v.kind <> 'captured' AND v.entry_id IS NOT NULL)
         ORDER BY v.hold_id, v.id
    """),
    "ledger_account_has_its_balance": """
        SELECT COALESCE(a.organization_id, b.organization_id) AS organization_id,
               kassa_public_id('la', COALESCE(a.id, b.id)) AS account
          FROM ledger_account a
          FULL JOIN ledger_balance b ON b.organization_id = a.organization_id AND b.id = a.id
         WHERE a.id IS NULL OR b.id IS NULL OR b.currency <> a.currency
            OR b.credit_normal <> (a.type IN ('liability', 'equity', 'income'))
         ORDER BY COALESCE(a.id, b.id)
    """,
    "ledger_trial_balance_is_zero": """
        SELECT organization_id, currency, SUM(posted_debits) AS debits,
               SUM(posted_credits) AS credits
          FROM ledger_balance GROUP BY organization_id, currency
        HAVING SUM(posted_debits) <> SUM(posted_credits)
    """,
    # A sealed entry had its event: the feed is what it was sealed from. Of the others, either each
    # has one, or somebody wrote to the books behind the engine, or took an entry out of them.
    # Events are kept for a time, and an imported entry may be older than that.
    "ledger_entry_has_its_event": """
        SELECT COALESCE(e.organization_id, v.organization_id) AS organization_id,
               COALESCE(v.aggregate_id, kassa_public_id('je', e.id)) AS entry,
               CASE WHEN e.id IS NULL THEN 'an event without its entry'
                    ELSE 'an entry without its event' END AS what
          FROM (SELECT o.organization_id, o.id, o.recorded_at FROM ledger_journal_entry o
                  LEFT JOIN ledger_chain_link l
                    ON l.organization_id = o.organization_id AND l.entry_id = o.id
                 WHERE l.entry_id IS NULL) e
          FULL JOIN (
                SELECT o.organization_id, o.aggregate_id
                  FROM (SELECT organization_id, id FROM core_outbox_batch
                         WHERE public AND position IS NULL
                        UNION ALL
                        SELECT f.organization_id, n.id
                          FROM core_feed_head f
                          LEFT JOIN ledger_chain_head h ON h.organization_id = f.organization_id
                         CROSS JOIN LATERAL (
                               SELECT id FROM core_outbox_batch
                                WHERE organization_id = f.organization_id
                                  AND position > COALESCE(h.feed_position, 0)) AS n) AS waiting
                  JOIN core_outbox_event o
                    ON o.organization_id = waiting.organization_id AND o.batch_id = waiting.id
                 WHERE o.name = 'ledger.journal_entry.posted') v
            ON v.organization_id = e.organization_id
           AND v.aggregate_id = kassa_public_id('je', e.id)
         WHERE e.id IS NULL
            OR (v.aggregate_id IS NULL AND e.recorded_at > now() - interval '89 days')
         ORDER BY e.id, v.aggregate_id
    """,
    # Events are dropped one day, and what is not sealed by then never could be.
    "ledger_is_sealed_within_an_hour": """
        SELECT f.organization_id, h.feed_position AS sealed_up_to, f.last_position,
               next.inserted_at AS waits_since
          FROM core_feed_head f
          LEFT JOIN ledger_chain_head h ON h.organization_id = f.organization_id
         CROSS JOIN LATERAL (
               SELECT inserted_at FROM core_outbox_batch
                WHERE organization_id = f.organization_id
                  AND position > COALESCE(h.feed_position, 0)
                ORDER BY position LIMIT 1) AS next
         WHERE next.inserted_at < now() - interval '1 hour'
         ORDER BY next.inserted_at
    """,
    "ledger_chain_has_no_gap": """
        SELECT COALESCE(h.organization_id, l.organization_id) AS organization_id,
               h.position AS head, l.last AS last_link, l.links, h.feed_position, f.last_position
          FROM ledger_chain_head h
          FULL JOIN (SELECT organization_id, COUNT(*) AS links, MAX(position) AS last
                       FROM ledger_chain_link GROUP BY organization_id) l
            ON l.organization_id = h.organization_id
          LEFT JOIN core_feed_head f ON f.organization_id = h.organization_id
         WHERE COALESCE(h.position, 0) <> COALESCE(l.links, 0)
            OR COALESCE(l.last, 0) <> COALESCE(l.links, 0)
            -- Ahead of the feed it would pass over what comes there.
            OR h.feed_position > COALESCE(f.last_position, 0)
    """,
    "ledger_link_has_its_entry": """
        SELECT l.organization_id, l.position, kassa_public_id('je', l.entry_id) AS entry
          FROM ledger_chain_link l
          LEFT JOIN ledger_journal_entry e
            ON e.organization_id = l.organization_id AND e.id = l.entry_id
         WHERE e.id IS NULL
         ORDER BY l.organization_id, l.position
    """,
    # An account's postings are sealed in their order, so what is not sealed is above what is.
    "ledger_chain_skips_no_entry": """
        SELECT e.organization_id, kassa_public_id('je', e.id) AS entry, p.account_version,
               t.sealed AS sealed_version
          FROM ledger_journal_entry e
          LEFT JOIN ledger_chain_link l
            ON l.organization_id = e.organization_id AND l.entry_id = e.id
          JOIN ledger_posting p ON p.organization_id = e.organization_id AND p.entry_id = e.id
          JOIN (SELECT organization_id, account_id, MAX(last_version) AS sealed
                  FROM ledger_monthly_total WHERE clock = 'recorded'
                 GROUP BY organization_id, account_id) t
            ON t.organization_id = p.organization_id AND t.account_id = p.account_id
         WHERE l.entry_id IS NULL AND p.account_version <= t.sealed
         ORDER BY e.id
    """,
    "ledger_months_agree_by_both_clocks": """
        SELECT organization_id, kassa_public_id('la', account_id) AS account
          FROM (SELECT organization_id, account_id, clock, SUM(debits_minor) AS debits,
                       SUM(credits_minor) AS credits, SUM(postings) AS postings,
                       MIN(first_version) AS first, MAX(last_version) AS last
                  FROM ledger_monthly_total GROUP BY organization_id, account_id, clock) AS summed
         GROUP BY organization_id, account_id
        HAVING COUNT(*) <> 2 OR MIN(debits) <> MAX(debits) OR MIN(credits) <> MAX(credits)
            OR MIN(first) <> 1 OR MAX(first) <> 1 OR MIN(last) <> MAX(last)
            OR MIN(postings) <> MAX(last) OR MAX(postings) <> MAX(last)
         ORDER BY account_id
    """,
    **_beside.INVARIANTS,
}
