"""Every row of every table as Postgres itself keeps it: to tell whether anything was written."""

from functools import cache

from django.db import connection


def fingerprints(*prefixes: str) -> dict[str, str]:
    """
    Return, by table, where each row lies, who wrote it and who locked or ended it.

    An update that changes nothing, a lock that was taken, a row inserted and deleted again: each
    leaves another place, another `xmin` or another `xmax`. Of all tables, or those so named.
    """
    with connection.cursor() as cursor:
        cursor.execute(_statement(prefixes))
        return dict(cursor.fetchall())


@cache
def _statement(prefixes: tuple[str, ...]) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname"
        )
        tables = [row[0] for row in cursor.fetchall()]
    return " UNION ALL ".join(
        f"SELECT '{table}', md5(string_agg(ctid::text || xmin || ':' || xmax, ' ' ORDER BY ctid))"
        f' FROM "{table}"'
        for table in tables
        if not prefixes or table.startswith(prefixes)
    )
