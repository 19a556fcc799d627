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
# It holds from the next ANALYZE on, so there is one of this column where there was one before. What
# is there already is left alone, so that a run after the first changes nothing and locks nothing.
_SAY_SO: Final = f"""
    DO $$
    DECLARE
        found record;
        names text;
    BEGIN
        FOR found IN
            SELECT c.oid::regclass AS name, c.relkind, c.reltuples
              FROM pg_class c
              JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
               AND a.attname = 'organization_id' AND NOT a.attisdropped AND a.attoptions IS NULL
             ORDER BY c.oid
        LOOP
            names := 'n_distinct = {ORGANIZATIONS}';
            IF found.relkind = 'p' THEN
                names := names || ', n_distinct_inherited = {ORGANIZATIONS}';
            END IF;
            EXECUTE format('ALTER TABLE ONLY %s ALTER organization_id SET (%s)', found.name, names);
            IF found.relkind = 'r' AND found.reltuples > 0 THEN
                EXECUTE format('ANALYZE %s (organization_id)', found.name);
            END IF;
        END LOOP;
    END
    $$
"""  # noqa: S608  (the number is ours)


def after_migrations(*, using: str, **_: Any) -> None:  # noqa: ANN401  (Django's signals are untyped)
    """Have every table of tenants say so, those that later migrations make as well."""
    with connections[using].cursor() as cursor:
        cursor.execute(_SAY_SO)
