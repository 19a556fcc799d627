"""The tree of codes: what stands under each branch, one level at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from typing import Any, Final
from uuid import UUID

from django.db import connection

from apps.ledger.queries._expired_sql import EXPIRED

SEGMENTS_MAX: Final = 100

# The segments of each asked level by their rank; of a level with too many only the first, and the
# one that is opened further. Accounts together may have more than a bigint holds.
_LEVELS_AT: Final = """
    WITH {expired}, level AS (
        SELECT * FROM unnest(%(prefixes)s::text[], %(opened)s::text[], %(depths)s::int[],
                             %(after)s::text[]) AS l(prefix, opened, depth, after)
    ), segment AS (
        SELECT l.prefix, l.opened, split_part(a.code, ':', l.depth + 1) AS name, a.currency,
               COUNT(*) AS accounts, SUM(b.posted_debits - b.posted_credits) AS net,
               SUM(CASE WHEN b.credit_normal THEN b.pending_debits - COALESCE(x.debits, 0)
                        ELSE b.pending_credits - COALESCE(x.credits, 0) END
                   ) AS pending_out,
               SUM(CASE WHEN b.credit_normal THEN b.pending_credits - COALESCE(x.credits, 0)
                        ELSE b.pending_debits - COALESCE(x.debits, 0) END
                   ) AS pending_in,
               SUM(CASE WHEN b.credit_normal THEN b.posted_credits - b.posted_debits
                             - b.pending_debits + COALESCE(x.debits, 0)
                        ELSE b.posted_debits - b.posted_credits
                             - b.pending_credits + COALESCE(x.credits, 0) END
                   ) AS available,
               COUNT(*) FILTER (WHERE split_part(a.code, ':', l.depth + 2) <> '') AS below,
               MIN(a.id::text) FILTER (WHERE split_part(a.code, ':', l.depth + 2) = '') AS leaf,
               string_agg(DISTINCT a.type, ' ' ORDER BY a.type) AS types
          FROM level l
          JOIN ledger_account a ON a.organization_id = %(org)s
           AND (l.prefix = '' OR starts_with(a.code, l.prefix || ':'))
           AND split_part(a.code, ':', l.depth + 1) > l.after
          JOIN ledger_balance b ON b.organization_id = a.organization_id AND b.id = a.id
          LEFT JOIN expired x ON x.account_id = a.id
         GROUP BY l.prefix, l.opened, name, a.currency
    ), ranked AS (
        SELECT *, dense_rank() OVER (PARTITION BY prefix ORDER BY name) AS rank FROM segment
    )
    SELECT prefix, name, currency, accounts, net, pending_out, pending_in, available, below, leaf,
           types, rank
      FROM ranked WHERE rank <= %(most)s OR name = opened
     ORDER BY prefix, name, currency
"""
_LEVELS: Final = _LEVELS_AT.format(expired=EXPIRED)


@dataclass(slots=True)
class Branch:
    """
    One segment of a code with all that lies under it.

    Sums are debits less credits of what is posted. Pending and available are each account's own, on
    its normal side: they say something where the accounts of a branch are of one side.
    """

    path: str
    accounts: int = 0
    types: frozenset[str] = frozenset()
    sums: dict[str, int] = field(default_factory=dict)
    pending_out: dict[str, int] = field(default_factory=dict)
    pending_in: dict[str, int] = field(default_factory=dict)
    available: dict[str, int] = field(default_factory=dict)
    has_branches: bool = False
    account_id: UUID | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition(":")[2]


@dataclass(slots=True)
class Level:
    """The branches right under one; `has_more` says that only the first are here."""

    branches: list[Branch] = field(default_factory=list)
    has_more: bool = False


def list_levels(
    *,
    organization_id: UUID,
    now: datetime,
    path: str = "",
    after: str = "",
) -> Mapping[str, Level]:
    """
    Return the level under each step of `path`, from the root (an empty text) on, in one read.

    The last level begins after the segment `after`. A branch that is an account and has others
    below it carries both. A step without a name is none, and ends the path. A hold whose time is
    over at `now` reserves nothing.
    """
    steps = list(takewhile(bool, path.split(":")))
    prefixes = [":".join(steps[:depth]) for depth in range(len(steps) + 1)]
    values: dict[str, Any] = {
        "org": organization_id,
        "owners": [organization_id],
        "now": now,
        "prefixes": prefixes,
        "opened": [*steps, ""],
        "depths": list(range(len(prefixes))),
        "after": [""] * len(steps) + [after],
        "most": SEGMENTS_MAX + 1,
    }
    levels = {prefix: Level() for prefix in prefixes}
    with connection.cursor() as cursor:
        cursor.execute(_LEVELS, values)
        rows = cursor.fetchall()
    for prefix, name, currency, accounts, net, *reserved, below, leaf, types, rank in rows:
        level = levels[prefix]
        if rank > SEGMENTS_MAX:
            level.has_more = True
            if name not in steps:
                continue
        branch_path = f"{prefix}:{name}" if prefix else name
        if not level.branches or level.branches[-1].path != branch_path:
            level.branches.append(Branch(branch_path))
        branch = level.branches[-1]
        branch.accounts += accounts
        branch.types |= frozenset(types.split())
        # A row for each currency of a branch.
        branch.sums[currency] = int(net)
        branch.pending_out[currency], branch.pending_in[currency], branch.available[currency] = map(
            int, reserved
        )
        branch.has_branches |= below > 0
        branch.account_id = UUID(leaf) if leaf else branch.account_id
    _keep_opened(levels, prefixes, steps)
    return levels


def _keep_opened(
    levels: Mapping[str, Level], prefixes: Sequence[str], steps: Sequence[str]
) -> None:
    """Of a level with too many branches above the opened one, keep that one alone."""
    for prefix, opened in zip(prefixes, steps, strict=False):
        level = levels[prefix]
        if level.has_more:
            level.branches = [one for one in level.branches if one.name == opened]
