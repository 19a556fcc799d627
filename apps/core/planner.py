"""
What Postgres' planner is told of tenants: it takes none of them for small (ADR 0160).

A statement that is prepared once is planned for whoever it will be asked for, by how many rows an
organization has on average. Among thousands of small ones that is a handful, and then whatever
begins with `organization_id` is as good a way as any: an index that has nothing else of what is
asked, or a join with all that the organization has. Of the one large tenant that reads millions of
rows. So each of our tables says that it is shared by few.
"""

from typing import Any, Final

from django.db import connections

# What a plan costs that is made for a small one is next to nothing: a look into an index by all of
# its columns is the same for both. Of ten, each is large as soon as the table is.
ORGANIZATIONS: Final = 10
# What is said already is left alone: a run after the first changes nothing and locks nothing.
_SILENT: Final = """
    SELECT c.oid::regclass::text, c.relkind = 'p', c.relkind = 'r' AND c.reltuples > 0
      FROM pg_class c
      JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
       AND a.attname = 'organization_id' AND NOT a.attisdropped AND a.attoptions IS NULL
     ORDER BY c.oid
"""


def after_migrations(*, using: str, **_: Any) -> None:  # noqa: ANN401  (Django's signals are untyped)
    """
    Have every table of tenants say so, those that later migrations make as well.

    Table by table, so that none is kept from autovacuum, or from new weeks, while others are read.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(_SILENT)
        for table, is_parted, has_rows in cursor.fetchall():
            told = f"n_distinct = {ORGANIZATIONS}"
            if is_parted:
                told += f", n_distinct_inherited = {ORGANIZATIONS}"
            cursor.execute(f"ALTER TABLE ONLY {table} ALTER organization_id SET ({told})")
            # It holds from the next ANALYZE on.
            if has_rows:
                cursor.execute(f"ANALYZE {table} (organization_id)")
