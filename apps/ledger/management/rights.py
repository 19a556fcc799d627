"""What a role of the application may do with the books, and whether it may do more (ADR 0076)."""

from collections.abc import Sequence
from typing import Final

from django.apps import apps
from django.core import checks
from django.db import connection

from apps.ledger.models import (
    Balance,
    BalanceMonitor,
    ChainHead,
    Hold,
    LedgerAccount,
    MonthlyTotal,
    Period,
    TypeTotal,
)

# What changes by its nature. Everything else is written once: the guards refuse any change, and
# the role has no right to try.
CHANGING: Final = (
    Balance,
    BalanceMonitor,
    ChainHead,
    Hold,
    LedgerAccount,
    MonthlyTotal,
    Period,
    TypeTotal,
)

# In the schema that guards name, not in the role's first one, which may be a schema of its own.
# An owner, and who may become one, takes any right for itself. Who may make triggers makes one that
# changes a row behind the guards, which look at the columns that a statement names.
_EXCESS: Final = """
    SELECT current_user, own.relname, array_remove(ARRAY[
               CASE WHEN pg_has_role(own.relowner, 'MEMBER') THEN 'own' END,
               CASE WHEN NOT own.relname = ANY(%(changing)s)
                     AND has_any_column_privilege(own.oid, 'UPDATE') THEN 'UPDATE' END,
               CASE WHEN has_table_privilege(own.oid, 'DELETE') THEN 'DELETE' END,
               CASE WHEN has_table_privilege(own.oid, 'TRUNCATE') THEN 'TRUNCATE' END,
               CASE WHEN has_table_privilege(own.oid, 'TRIGGER') THEN 'TRIGGER' END
           ], NULL)
      FROM pg_class AS own
     WHERE own.relkind = 'r' AND own.relnamespace = 'public'::regnamespace
       AND own.relname = ANY(%(tables)s)
     ORDER BY own.relname
"""
# As `replica`, a session's statements meet no guard and no foreign key. And a guard looks for its
# operators in the tables' schema too: who may make some there says what is equal to 0.
_AROUND: Final = """
    SELECT current_user, array_remove(ARRAY[
               CASE WHEN has_parameter_privilege('session_replication_role', 'SET')
                    THEN 'set session_replication_role' END,
               CASE WHEN has_schema_privilege('public', 'CREATE')
                    THEN 'create in schema public' END
           ], NULL)
"""


def tables() -> dict[str, bool]:
    """Return the tables of the books, and whether their rows may change."""
    changing = {model._meta.db_table for model in CHANGING}
    names = sorted(model._meta.db_table for model in apps.get_app_config("ledger").get_models())
    return {name: name in changing for name in names}


def books_are_out_of_reach(
    *, databases: Sequence[str] | None = None, **_: object
) -> list[checks.CheckMessage]:
    """Refuse a role that could rewrite the books: for `check --deploy --database default`."""
    if not databases:
        return []
    books = tables()
    changing = [name for name, may_change in books.items() if may_change]
    with connection.cursor() as cursor:
        cursor.execute(_EXCESS, {"changing": changing, "tables": list(books)})
        rows = cursor.fetchall()
        cursor.execute(_AROUND)
        [(role, ways)] = cursor.fetchall()
    around: list[checks.CheckMessage] = [
        checks.Error(
            f"{role} may {way}, and by that get round the guards of the books.",
            hint="Take that right from it, and from PUBLIC.",
            id="kassa.E020",
        )
        for way in ways
    ]
    hint = "Run manage.py grant_ledger --role for it, as the owner of the tables."
    return around + [
        checks.Error(f"{role} may {', '.join(rights)} {table}.", hint=hint, id="kassa.E020")
        for role, table, rights in rows
        if rights
    ]
