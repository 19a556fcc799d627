"""
The one statement by which due rows are leased, and no organization's backlog hides the others.

`work.claim_due` is how it is used. ADR 0115 says what is promised, and what it costs.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.db import models

if TYPE_CHECKING:
    from apps.core.work import WorkRow

# How the index is named by which a table's open rows are found by their organization.
TURNS: Final = "_turns"
_REACH_MIN: Final = 200
# How many organizations one claim looks at beyond the oldest rows: a few milliseconds' worth.
_WALK_MAX: Final = 1_000
_FIRST: Final = UUID(int=0)
# The oldest rows are looked at without a lock, so that claims at once do not hide work from each
# other; the row locks are taken one by one in the order of choice, each with its condition again.
_CLAIM: Final = """
    WITH RECURSIVE near AS MATERIALIZED (
        SELECT id, {organization} AS tenant, next_attempt_at, state = 'leased' AS lapsed
          FROM {table}
         WHERE {due} {narrowed}
         ORDER BY next_attempt_at
         LIMIT %(reach)s
    ), {others} ranked AS (
        SELECT id, tenant, next_attempt_at, lapsed,
               row_number() OVER (PARTITION BY tenant ORDER BY next_attempt_at) AS place,
               row_number() OVER (PARTITION BY lapsed ORDER BY next_attempt_at) AS turn
          FROM {found}
    ), chosen AS (
        SELECT task.id, ranked.tenant
          FROM ranked JOIN {table} AS task ON task.id = ranked.id {owned_by_ranked}
         WHERE (NOT ranked.lapsed OR ranked.turn = 1)
           AND task.state IN ('pending', 'leased') AND task.next_attempt_at <= clock_timestamp()
         ORDER BY (ranked.place > %(share)s), ranked.next_attempt_at
         LIMIT %(limit)s
           FOR NO KEY UPDATE OF task SKIP LOCKED
    )
    UPDATE {table} AS task
       SET state = CASE WHEN {spent} THEN 'quarantined' ELSE 'leased' END,
           last_error_code = CASE WHEN {spent} THEN 'lapsed' ELSE task.last_error_code END,
           lapses = task.lapses + CASE WHEN task.state = 'leased' THEN 1 ELSE 0 END,
           attempts = task.attempts + 1,
           lease_token = CASE WHEN NOT {spent} THEN gen_random_uuid() END,
           lease_until = CASE WHEN NOT {spent} THEN statement_timestamp() + %(lease)s END,
           next_attempt_at = statement_timestamp() + %(lease)s
      FROM chosen
     WHERE task.id = chosen.id {owned_by_chosen}
    RETURNING task.*, {walked} AS walked_to
"""
DUE: Final = "state IN ('pending', 'leased') AND next_attempt_at <= statement_timestamp()"
# Where the oldest rows are of so few organizations that a quarter for each is not all that is
# asked for, more is due and others may wait behind them. One step of the walk leads from an
# organization to the next one that has open work, over all of its rows; the n that have waited
# longest are asked for what they may be given. As many rows again are among the oldest already.
_OTHERS: Final = """
    walk (tenant, due_at) AS (
        SELECT %(after)s::uuid, NULL::timestamptz
         WHERE (SELECT count(*) FROM near) = %(reach)s
           AND (SELECT sum(least(given, %(share)s))
                  FROM (SELECT count(*) FILTER (WHERE NOT lapsed) AS given
                          FROM near GROUP BY tenant) AS near_by) < %(limit)s
         UNION ALL
        SELECT next.organization_id, next.next_attempt_at
          FROM walk CROSS JOIN LATERAL (
               SELECT organization_id, next_attempt_at FROM {table}
                WHERE state IN ('pending', 'leased') AND organization_id > walk.tenant
                ORDER BY organization_id, next_attempt_at
                LIMIT 1) AS next
    ), walked AS MATERIALIZED (
        SELECT tenant, due_at FROM walk LIMIT %(walk)s
    ), others AS (
        SELECT task.*
          FROM (SELECT tenant FROM walked WHERE due_at <= statement_timestamp()
                 ORDER BY due_at LIMIT %(limit)s) AS waiting
         CROSS JOIN LATERAL (
               SELECT id, organization_id AS tenant, next_attempt_at, state = 'leased' AS lapsed
                 FROM {table}
                WHERE organization_id = waiting.tenant AND {due}
                ORDER BY next_attempt_at
                LIMIT %(share)s) AS task
         LIMIT 2 * %(limit)s
    ),
"""
_FOUND: Final = "(SELECT * FROM near UNION SELECT * FROM others) AS found"
_WALKED: Final = "(SELECT tenant FROM walked OFFSET %(walk)s - 1)"
# By table, where the last walk of this process had to stop; the next one goes on from there.
_walked: dict[str, UUID] = {}
_SPENT: Final = "(task.state = 'leased' AND task.lapses + 1 >= %(lapses_max)s)"


def lease[M: "WorkRow"](
    model: type[M],
    *,
    limit: int,
    seconds: int,
    lapses_max: int,
    only_ids: list[UUID] | None,
) -> list[M]:
    """Lease at most `limit` due rows; return them, and those that are quarantined instead."""
    table = model._meta.db_table
    found = model.objects.raw(
        _statement(model, is_narrowed=only_ids is not None),
        {
            "limit": limit,
            "reach": max(4 * limit, _REACH_MIN),
            "share": max(1, limit // 4),
            "lease": timedelta(seconds=seconds),
            "lapses_max": lapses_max,
            "only": only_ids,
            "after": _walked.get(table, _FIRST),
            "walk": _WALK_MAX,
        },
    )
    rows = list(found)
    if rows:
        _walked[table] = getattr(rows[0], "walked_to", None) or _FIRST
    return rows


def _statement(model: type["WorkRow"], *, is_narrowed: bool) -> str:
    table = f'"{model._meta.db_table}"'
    owner = _owner(model)
    # A job's period belongs to nobody: it is found by its id alone.
    owned = "AND task.organization_id = {by}.tenant" if owner and not owner.null else ""
    is_walked = not is_narrowed and any(index.name.endswith(TURNS) for index in model._meta.indexes)
    return _CLAIM.format(
        table=table,
        organization="organization_id" if owner else "NULL::uuid",
        owned_by_ranked=owned.format(by="ranked"),
        owned_by_chosen=owned.format(by="chosen"),
        due=DUE,
        narrowed="AND id = ANY(%(only)s)" if is_narrowed else "",
        others=_OTHERS.format(table=table, due=DUE) if is_walked else "",
        found=_FOUND if is_walked else "near",
        walked=_WALKED if is_walked else "NULL::uuid",
        spent=_SPENT,
    )


def _owner(model: type["WorkRow"]) -> models.Field[Any, Any] | None:
    fields = model._meta.concrete_fields
    return next((field for field in fields if field.attname == "organization_id"), None)
