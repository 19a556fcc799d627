"""Indexes that a migration builds while others write."""

from typing import Any, override

from django.contrib.postgres import operations


class AddIndexConcurrently(operations.AddIndexConcurrently):
    """
    Build an index for as long as it takes, whatever an earlier try has left.

    The migrating role's timeouts are for what others wait for. Nobody waits for a build, and itself
    it waits, by locks, for every transaction that was there before it. One that was cut off would
    leave an invalid index, in whose place the next try could put none.
    """

    @override
    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        name = schema_editor.quote_name(self.index.name)
        schema_editor.execute("SET statement_timeout = 0")
        schema_editor.execute("SET lock_timeout = 0")
        try:
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        finally:
            schema_editor.execute("RESET lock_timeout")
            schema_editor.execute("RESET statement_timeout")
