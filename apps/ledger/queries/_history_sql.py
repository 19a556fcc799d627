"""The statements of `_history`, in parts: which of them a read needs depends on what it asks."""

from typing import Final

IS_NEAR: Final = "p.recorded_at - p.effective_at BETWEEN INTERVAL '-4 days' AND INTERVAL '4 days'"
IS_DISPLACED: Final = (
    "p.recorded_at - p.effective_at NOT BETWEEN INTERVAL '-4 days' AND INTERVAL '4 days'"
)

# The last version that any total counts stands in the newest month by `recorded`; or in the one
# before, if the clock stepped back over the month's end.
SEALED: Final = """
    COALESCE((SELECT MAX(newest.last_version)
                FROM (SELECT t.last_version FROM ledger_monthly_total t
                       WHERE t.organization_id = b.organization_id
                         AND t.account_id = b.id AND t.clock = 'recorded'
                       ORDER BY t.month DESC LIMIT 2) AS newest), 0)
"""
ASKED_OF_FEW: Final = """
    asked AS MATERIALIZED (
        SELECT b.id, b.version, b.posted_debits, b.posted_credits, {sealed} AS sealed
          FROM ledger_balance b
         WHERE b.organization_id = %(org)s AND b.id = ANY(%(accounts)s)
    )
"""
# Of thousands, those that moved lately are found in one range; the others one by one.
ASKED_OF_MANY: Final = """
    recent AS MATERIALIZED (
        SELECT t.account_id, MAX(t.last_version) AS last_version
          FROM ledger_monthly_total t
         WHERE t.organization_id = %(org)s AND t.clock = 'recorded'
           AND t.month >= (SELECT MAX(l.month) - INTERVAL '1 month' FROM ledger_monthly_total l
                            WHERE l.organization_id = %(org)s AND l.clock = 'recorded')
         GROUP BY t.account_id
    ), asked AS MATERIALIZED (
        SELECT b.id, b.version, b.posted_debits, b.posted_credits,
               COALESCE(recent.last_version, {sealed}) AS sealed
          FROM ledger_account a
          JOIN ledger_balance b ON b.organization_id = a.organization_id AND b.id = a.id
          LEFT JOIN recent ON recent.account_id = b.id
         WHERE a.organization_id = %(org)s
           AND (%(branch)s = '' OR a.code = %(branch)s OR starts_with(a.code, %(below)s))
           AND (%(currency)s = '' OR a.currency = %(currency)s)
    )
"""

# Halving: for each account and instant, the last version that was recorded before the instant.
SEARCH: Final = """
    search AS (
        SELECT s.id AS account_id, k.number, k.at, 0::bigint AS low, s.version AS high
          FROM asked s
         CROSS JOIN unnest(%(numbers)s::int[], %(search_at)s::timestamptz[]) AS k(number, at)
         UNION ALL
        SELECT h.account_id, h.number, h.at,
               CASE WHEN p.recorded_at < h.at THEN h.middle ELSE h.low END,
               CASE WHEN p.recorded_at < h.at THEN h.high ELSE h.middle - 1 END
          FROM (SELECT *, (low + high + 1) / 2 AS middle FROM search WHERE low < high) AS h
          JOIN ledger_posting p ON p.organization_id = %(org)s
           AND p.account_id = h.account_id AND p.account_version = h.middle
    ), found AS MATERIALIZED (
        SELECT account_id, number, low AS version FROM search WHERE low = high
    )
"""

# Not grouped here: one aggregate at the end takes the rows of all parts, in memory, and does not
# depend on how many the planner expects of each.
SIDES: Final = "p.account_id, GREATEST(p.amount_minor, 0), GREATEST(-p.amount_minor, 0), 1"

NOW: Final = """
    SELECT {n}, 1, s.id, s.posted_debits, s.posted_credits, s.version FROM asked s
"""
TOTALS: Final = """
    SELECT {n} AS number, {sign} AS sign, t.account_id, t.debits_minor AS debits,
           t.credits_minor AS credits, t.postings
      FROM ledger_monthly_total t
      JOIN asked s ON s.id = t.account_id
     WHERE t.organization_id = %(org)s AND t.clock = '{clock}' AND t.month {beyond} %(month_{n})s
"""
TAIL: Final = """
    SELECT {n}, {sign}, {sides}
      FROM asked s
      JOIN ledger_posting p ON p.organization_id = %(org)s
       AND p.account_id = s.id AND p.account_version > s.sealed
     WHERE s.version > s.sealed AND p.{clock}_at {beyond} %(before_{n})s
"""
# Read before it is joined: by account the planner would rather walk a hot account's whole history.
DISPLACED: Final = """
    displaced_{n} AS MATERIALIZED (
        SELECT p.account_id, p.account_version, p.amount_minor
          FROM ledger_posting p
         WHERE p.organization_id = %(org)s AND {is_displaced}
           AND p.effective_at >= %(low_{n})s AND p.effective_at < %(high_{n})s
    )
"""
DISPLACED_PART: Final = """
    SELECT {n}, %(sign_{n})s, {sides}
      FROM displaced_{n} p
      JOIN asked s ON s.id = p.account_id AND p.account_version <= s.sealed
"""
NEAR_PART_OF_FEW: Final = """
    SELECT {n}, %(sign_{n})s, {sides}
      FROM asked s
      JOIN found AS f ON f.account_id = s.id AND f.number = 2 * {n}
      JOIN found AS u ON u.account_id = s.id AND u.number = 2 * {n} + 1
      JOIN ledger_posting p ON p.organization_id = %(org)s AND p.account_id = s.id
       AND p.account_version > f.version AND p.account_version <= LEAST(u.version, s.sealed)
     WHERE {is_near}
       AND p.effective_at >= %(low_{n})s AND p.effective_at < %(high_{n})s
"""
NEAR_PART_OF_MANY: Final = """
    SELECT {n}, %(sign_{n})s, {sides}
      FROM ledger_posting p
      JOIN asked s ON s.id = p.account_id AND p.account_version <= s.sealed
     WHERE p.organization_id = %(org)s AND {is_near}
       AND p.recorded_at >= %(since_{n})s AND p.recorded_at < %(until_{n})s
       AND p.effective_at >= %(low_{n})s AND p.effective_at < %(high_{n})s
"""
RECORDED_PART: Final = """
    SELECT {n}, %(sign_{n})s, {sides}
      FROM ledger_posting p
      JOIN asked s ON s.id = p.account_id AND p.account_version <= s.sealed
     WHERE p.organization_id = %(org)s
       AND p.recorded_at >= %(low_{n})s AND p.recorded_at < %(high_{n})s
"""
RECORDED: Final = """
    WITH RECURSIVE {asked}, {search}
    SELECT f.account_id, f.number, f.version, p.balance_after_minor
      FROM found f
      JOIN ledger_posting p ON p.organization_id = %(org)s
       AND p.account_id = f.account_id AND p.account_version = f.version
"""
CUMULATED: Final = """
    WITH RECURSIVE {tables}, part AS ({parts})
    SELECT number, account_id, SUM(sign * debits)::bigint, SUM(sign * credits)::bigint,
           SUM(sign * postings)::bigint
      FROM part GROUP BY number, account_id HAVING SUM(sign * postings) <> 0
"""


def filled(template: str, **more: object) -> str:
    """Return a statement's text: constants of this module, and numbers that tell parts apart."""
    return template.format(
        sides=SIDES, is_near=IS_NEAR, is_displaced=IS_DISPLACED, sealed=SEALED, **more
    )
