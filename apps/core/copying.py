"""Writing thousands of new rows by COPY, where INSERT would spend its time on parameters."""

from collections.abc import Sequence

from django.db import connection, models
from psycopg.types.json import Jsonb

from apps.core import statements


def copy_rows(rows: Sequence[models.Model]) -> None:
    """
    Write new rows of one model, all in one statement; constraints and triggers hold as ever.

    Every column is written, so a value that only the database knows (`db_default`) is not for here.
    Errors are Django's.
    """
    if not rows:
        return
    meta = rows[0]._meta
    columns = ", ".join(f'"{field.column}"' for field in meta.concrete_fields)
    fields = [
        (field.attname, isinstance(field, models.JSONField)) for field in meta.concrete_fields
    ]
    # Names of table and columns are ours, from the model; nothing of them comes from outside.
    copy_statement = f'COPY "{meta.db_table}" ({columns}) FROM STDIN'
    statements.flush()
    with (
        connection.wrap_database_errors,
        connection.cursor() as cursor,
        cursor.copy(copy_statement) as copy,
    ):
        for row in rows:
            copy.write_row(
                [
                    Jsonb(getattr(row, name)) if is_json else getattr(row, name)
                    for name, is_json in fields
                ]
            )
