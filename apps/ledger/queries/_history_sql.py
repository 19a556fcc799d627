"""The statements of `_history`, in parts: which of them a read needs depends on what it asks."""

from collections.abc import Sequence
from typing import Final

IS_NEAR: Final = "p.recorded_at - p.effective_at BETWEEN INTERVAL '-4 days' AND INTERVAL '4 days'"
IS_DISPLACED: Final = (
    "p.recorded_at - p.effective_at NOT BETWEEN INTERVAL '-4 days' AND INTERVAL '4 days'"
)

# The last version that any total counts stands in the newest month by `recorded`; or in the one
# before, if the clock stepped back over the month's end.
_SEALED: Final = """
    SELECT MAX(newest.last_version) AS version
      FROM (SELECT t.last_version FROM ledger_monthly_total t
             WHERE t.organization_id = {row}.organization_id
               AND t.account_id = {row}.{account} AND t.clock = 'recorded'
             ORDER BY t.month DESC LIMIT 2) AS newest
"""
ASKED_OF_FEW: Final = """
    asked AS MATERIALIZED (
        SELECT b.id, a.code, a.type, a.currency, b.version, b.posted_debits, b.posted_credits,
               COALESCE(({sealed}), 0) AS sealed
          FROM ledger_balance b
          JOIN ledger_account a ON a.organization_id = b.organization_id AND a.id = b.id
         WHERE b.organization_id = %(org)s AND b.id = ANY(%(accounts)s)
    )
"""
ASKED_OF_MANY: Final = """
    asked AS MATERIALIZED (
        SELECT b.id, a.code, a.type, a.currency, b.posted_debits, b.posted_credits
          FROM ledger_account a
          JOIN ledger_balance b ON b.organization_id = a.organization_id AND b.id = a.id
         WHERE a.organization_id = %(org)s
           AND (%(branch)s = '' OR a.code = %(branch)s OR starts_with(a.code, %(below)s))
           AND (%(currency)s = '' OR a.currency = %(currency)s)
    )
"""
# What no total counts yet, of all accounts. How many postings that are is known: those there were
# less those that were sealed. They are among the newest, so reading from there ends with the last
# of them, and no account need be asked how far it is sealed. OFFSET 0 keeps the comparison out of
# what is looked up, so that Postgres remembers the answer by account. Whoever goes through it once
# has none of it stored: of a minute at full rate that is a file (ADR 0186).
UNSEALED: Final = """
    unsealed AS (
        SELECT p.account_id, p.entry_id, p.amount_minor, p.effective_at, p.recorded_at
          FROM (SELECT p.*, sealed.version AS sealed
                  FROM ledger_posting p CROSS JOIN LATERAL ({sealed_of_posting}) AS sealed
                 WHERE p.organization_id = %(org)s
                 ORDER BY p.entry_id DESC OFFSET 0) AS p
         WHERE p.account_version > COALESCE(p.sealed, 0)
         ORDER BY p.entry_id DESC
         LIMIT GREATEST((SELECT SUM(b.version) FROM ledger_balance b
                          WHERE b.organization_id = %(org)s)
                        - COALESCE((SELECT SUM(t.postings) FROM ledger_type_total t
                                     WHERE t.organization_id = %(org)s
                                       AND t.clock = 'recorded'), 0), 0)
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

# Two columns for each instant of a read, debits and credits. A part is of one instant, the others'
# being empty, or of each by a condition.
SIDES_OF_POSTINGS: Final = """
    {sign} * (SUM(GREATEST(p.amount_minor, 0)){counted})::bigint,
    {sign} * ((SUM(GREATEST(p.amount_minor, 0)){counted}) - (SUM(p.amount_minor){counted}))::bigint
"""
SIDES_OF_TOTALS: Final = """
    {sign} * (SUM(t.debits_minor){counted})::bigint,
    {sign} * (SUM(t.credits_minor){counted})::bigint
"""
SIDES_NOW: Final = "s.posted_debits, s.posted_credits"
NO_SIDES: Final = "0, 0"

# Left out where all accounts of an organisation are asked about.
OF_ASKED: Final = "JOIN asked s ON s.id = account_id"

NOW: Final = """
    SELECT s.id, {sides} FROM asked s
"""
TOTALS: Final = """
    SELECT t.account_id, {sides}
      FROM ledger_monthly_total t {of_asked}
     WHERE t.organization_id = %(org)s AND t.clock = '{clock}' AND t.month {beyond} %(outermost)s
     GROUP BY t.account_id
"""
TAIL: Final = """
    SELECT p.account_id, {sides}
      FROM asked s
      JOIN ledger_posting p ON p.organization_id = %(org)s
       AND p.account_id = s.id AND p.account_version > s.sealed
     WHERE s.version > s.sealed
     GROUP BY p.account_id
"""
TAIL_OF_MANY: Final = """
    SELECT p.account_id, {sides} FROM unsealed p {of_asked} GROUP BY p.account_id
"""
# What was posted after a version: of one account, answered as of that version, it is left out.
LATER: Final = """
    SELECT p.account_id, {sides}
      FROM ledger_posting p
     WHERE p.organization_id = %(org)s AND p.account_id = ANY(%(accounts)s)
       AND p.account_version > %(newest)s
     GROUP BY p.account_id
"""
# Read before it is joined: by account the planner would rather walk a hot account's whole history.
DISPLACED: Final = """
    displaced_{n} AS MATERIALIZED (
        SELECT p.account_id, p.amount_minor, p.recorded_at
          FROM ledger_posting p
         WHERE p.organization_id = %(org)s AND {is_displaced}
           AND p.effective_at >= %(low_{n})s AND p.effective_at < %(high_{n})s
    )
"""
DISPLACED_PART_OF_FEW: Final = """
    SELECT p.account_id, {sides} FROM displaced_{n} p {of_asked} GROUP BY p.account_id
"""
DISPLACED_PART_OF_MANY: Final = """
    SELECT p.account_id, {sides}
      FROM displaced_{n} p {of_asked}
     WHERE p.recorded_at < %(since_{n})s OR p.recorded_at >= %(until_{n})s
     GROUP BY p.account_id
"""
# Both ends of the versions in one row, without which the planner bounds its reading by one of them.
NEAR_PART_OF_FEW: Final = """
    SELECT p.account_id, {sides}
      FROM (SELECT account_id, MIN(version) AS low, MAX(version) AS high
              FROM found WHERE number / 2 = {n} GROUP BY account_id) AS f
      JOIN ledger_posting p ON p.organization_id = %(org)s AND p.account_id = f.account_id
       AND p.account_version > f.low AND p.account_version <= f.high
     WHERE {is_near}
       AND p.effective_at >= %(low_{n})s AND p.effective_at < %(high_{n})s
     GROUP BY p.account_id
"""
# What is near and what is displaced are told apart by the recorded clock alone: with the difference
# of two clocks, taken for every posting, the planner would expect few and sort them all.
NEAR_PART_OF_MANY: Final = """
    SELECT p.account_id, {sides}
      FROM ledger_posting p {of_asked}
     WHERE p.organization_id = %(org)s
       AND p.recorded_at >= %(since_{n})s AND p.recorded_at < %(until_{n})s
       AND p.effective_at >= %(low_{n})s AND p.effective_at < %(high_{n})s
     GROUP BY p.account_id
"""
RECORDED_PART: Final = """
    SELECT p.account_id, {sides}
      FROM ledger_posting p {of_asked}
     WHERE p.organization_id = %(org)s
       AND p.recorded_at >= %(low_{n})s AND p.recorded_at < %(high_{n})s
     GROUP BY p.account_id
"""
PARTS_OF_FEW: Final = (NEAR_PART_OF_FEW, DISPLACED_PART_OF_FEW)
PARTS_OF_MANY: Final = (NEAR_PART_OF_MANY, DISPLACED_PART_OF_MANY)
RECORDED_PARTS: Final = (RECORDED_PART,)

RECORDED: Final = """
    WITH RECURSIVE {asked}, {search}
    SELECT f.account_id, f.number, f.version, p.balance_after_minor
      FROM found f
      JOIN ledger_posting p ON p.organization_id = %(org)s
       AND p.account_id = f.account_id AND p.account_version = f.version
"""
# Each part has one row per account at most: all of them together are summed in memory, however
# wrong the planner is about what a part looks at.
CUMULATED: Final = """
    WITH RECURSIVE {tables}, part(account_id, {columns}) AS ({parts}),
    moved AS (SELECT account_id, {sums} FROM part GROUP BY account_id)
    {answer}
"""
# Sums over all accounts, or those of a currency: of their types' totals up to a month, and of what
# lies beyond.
CUMULATED_BY_TYPE: Final = """
    WITH {tables}, part(account_id, {columns}) AS ({parts}),
    moved AS (SELECT account_id, {sums} FROM part GROUP BY account_id),
    added(currency, type, {columns}) AS (
        SELECT t.currency, t.type, {stored}
          FROM ledger_type_total t
         WHERE t.organization_id = %(org)s AND t.clock = '{clock}' AND t.month < %(outermost)s
         GROUP BY t.currency, t.type
         UNION ALL
        SELECT a.currency, a.type, {parted}
          FROM moved
          JOIN ledger_account a ON a.organization_id = %(org)s AND a.id = moved.account_id
         GROUP BY a.currency, a.type
    )
    SELECT currency, type, {summed}
      FROM added
     WHERE %(currency)s = '' OR currency = %(currency)s
     GROUP BY currency, type
     ORDER BY currency, type
"""
# What is answered of it: every account, the next ones that had moved, or the last ones before them,
# sums over all of them, or what moved on each between two instants.
EACH: Final = """
    SELECT s.id, s.code, s.type, s.currency, {cumulated}
      FROM asked s
      LEFT JOIN moved ON moved.account_id = s.id
     ORDER BY s.code
"""
NEXT_MOVED: Final = """
    SELECT s.id, s.code, s.type, s.currency, {cumulated}
      FROM asked s
      JOIN moved ON moved.account_id = s.id
     WHERE s.code >= %(start)s AND (debits_{last} > 0 OR credits_{last} > 0)
     ORDER BY s.code
     LIMIT %(count)s
"""
LAST_MOVED: Final = NEXT_MOVED.replace(">= %(start)s", "<= %(start)s").replace(
    "ORDER BY s.code", "ORDER BY s.code DESC"
)
BY_TYPE: Final = """
    SELECT s.currency, s.type, {summed}
      FROM asked s
      LEFT JOIN moved ON moved.account_id = s.id
     GROUP BY s.currency, s.type
     ORDER BY s.currency, s.type
"""
MOVED_BETWEEN: Final = """
    SELECT s.id, s.code, s.type, s.currency,
           COALESCE(debits_0, 0) - COALESCE(credits_0, 0) AS opening,
           COALESCE(debits_1, 0) - COALESCE(debits_0, 0) AS debits,
           COALESCE(credits_1, 0) - COALESCE(credits_0, 0) AS credits
      FROM asked s
      JOIN moved ON moved.account_id = s.id
     WHERE debits_1 > 0 OR credits_1 > 0
"""


def filled(template: str, **more: object) -> str:
    """Return a statement's text: constants of this module, and numbers that tell parts apart."""
    return template.format(
        is_near=IS_NEAR,
        is_displaced=IS_DISPLACED,
        sealed=_SEALED.format(row="b", account="id"),
        sealed_of_posting=_SEALED.format(row="p", account="account_id"),
        **more,
    )


def now(count: int) -> str:
    """Return the part that says what the counters say now, whatever the instant."""
    return NOW.format(sides=", ".join([SIDES_NOW] * count))


def totals(count: int, *, sign: int, beyond: str, clock: str, of_asked: str) -> str:
    """Return the part of whole months: read once, counted for each instant from its month on."""
    sides = [
        SIDES_OF_TOTALS.format(sign=sign, counted=f" FILTER (WHERE t.month {beyond} %(month_{n})s)")
        for n in range(count)
    ]
    return TOTALS.format(sides=", ".join(sides), beyond=beyond, clock=clock, of_asked=of_asked)


def tail(template: str, count: int, *, sign: int, beyond: str, clock: str, of_asked: str) -> str:
    """Return the part of what no total counts yet, for each instant from its month on."""
    sides = [
        SIDES_OF_POSTINGS.format(
            sign=sign, counted=f" FILTER (WHERE p.{clock}_at {beyond} %(boundary_{n})s)"
        )
        for n in range(count)
    ]
    return template.format(sides=", ".join(sides), of_asked=of_asked)


def later(count: int) -> str:
    """Return the part of what was posted later, and is effective before each instant."""
    sides = [
        SIDES_OF_POSTINGS.format(
            sign=-1, counted=f" FILTER (WHERE p.effective_at < %(before_{n})s)"
        )
        for n in range(count)
    ]
    return LATER.format(sides=", ".join(sides))


def part_of(n: int, part: str, count: int, *, of_asked: str) -> str:
    """Return a part of one instant: what lies between it and the start of its month."""
    sides = [NO_SIDES] * count
    sides[n] = SIDES_OF_POSTINGS.format(sign=f"%(sign_{n})s", counted="")
    return filled(part, n=n, sides=", ".join(sides), of_asked=of_asked)


def cumulated(tables: Sequence[str], parts: Sequence[str], count: int, *, answer: str) -> str:
    """Return the statement: rows of accounts, or sums of them, two columns for each instant."""
    columns = _columns(count)
    return CUMULATED.format(
        tables=", ".join(tables),
        parts=" UNION ALL ".join(parts),
        columns=", ".join(columns),
        sums=_added(columns),
        answer=answer.format(
            cumulated=", ".join(f"COALESCE({column}, 0)" for column in columns),
            summed=_summed(columns),
            last=count - 1,
        ),
    )


def cumulated_by_type(
    tables: Sequence[str], parts: Sequence[str], count: int, *, clock: str
) -> str:
    """Return the statement of sums over all accounts, without a row of each."""
    columns = _columns(count)
    stored = [
        f"SUM(t.{side}_minor) FILTER (WHERE t.month < %(month_{n})s)"
        for n in range(count)
        for side in ("debits", "credits")
    ]
    return CUMULATED_BY_TYPE.format(
        tables=", ".join(tables),
        parts=" UNION ALL ".join(parts),
        columns=", ".join(columns),
        sums=_added(columns),
        stored=", ".join(stored),
        parted=_summed(columns),
        summed=_summed(columns),
        clock=clock,
    )


def _columns(count: int) -> list[str]:
    return [f"{name}_{n}" for n in range(count) for name in ("debits", "credits")]


def _added(columns: Sequence[str]) -> str:
    return ", ".join(f"SUM({column})::bigint AS {column}" for column in columns)


def _summed(columns: Sequence[str]) -> str:
    # Together they may be more than a bigint holds.
    return ", ".join(f"COALESCE(SUM({column}), 0)" for column in columns)
