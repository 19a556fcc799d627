"""Every row of every table as Postgres itself keeps it: to tell whether anything was written."""

from functools import cache
from uuid import UUID

from django.db import connection


def fingerprints(*prefixes: str, locks: bool = True) -> dict[str, str]:
    """
    Return, by table, where each row lies, who wrote it and who locked or ended it.

    An update that changes nothing, a lock that was taken, a row inserted and deleted again: each
    leaves another place, another `xmin` or another `xmax`. Of all tables, or those so named;
    without `locks` what was rolled back may have locked a row.
    """
    with connection.cursor() as cursor:
        cursor.execute(_statement(prefixes, locks=locks))
        return dict(cursor.fetchall())


def count_rows(organization_id: UUID) -> dict[str, int]:
    """Return how many rows an organisation has in each table that has any of it."""
    with connection.cursor() as cursor:
        cursor.execute(_counts(), {"org": organization_id})
        return {table: count for table, count in cursor.fetchall() if count}


@cache
def _counts() -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_class c"
            "  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organization_id'"
            " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition"
            "   AND c.relnamespace = 'public'::regnamespace ORDER BY c.relname"
        )
        tables = [row[0] for row in cursor.fetchall()]
    return " UNION ALL ".join(
        f"SELECT '{table}', COUNT(*) FROM \"{table}\" WHERE organization_id = %(org)s"
        for table in tables
    )


@cache
def _statement(prefixes: tuple[str, ...], *, locks: bool) -> str:
    row = "ctid::text || xmin || ':' || xmax" if locks else "ctid::text || xmin"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class"
            # Through the table that has parts: those come and go with the weeks.
            " WHERE relkind IN ('r', 'p') AND NOT relispartition"
            "   AND relnamespace = 'public'::regnamespace ORDER BY relname"
        )
        tables = [row[0] for row in cursor.fetchall()]
    return " UNION ALL ".join(
        f"SELECT '{table}', md5(string_agg({row}, ' ' ORDER BY tableoid, ctid)) FROM \"{table}\""
        for table in tables
        if not prefixes or table.startswith(prefixes)
    )
