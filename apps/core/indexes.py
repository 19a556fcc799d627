"""Indexes that a migration builds, or takes away, while others write."""

from collections.abc import Iterator
from contextlib import contextmanager
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
        with _for_as_long_as_it_takes(schema_editor):
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    @override
    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        with _for_as_long_as_it_takes(schema_editor):
            super().database_backwards(app_label, schema_editor, from_state, to_state)


class RemoveIndexConcurrently(operations.RemoveIndexConcurrently):
    """
    Take an index away for as long as it takes: it waits by locks as a build does, nobody for it.

    One that was cut off would leave an index that is written and never read. In a migration of its
    own: what else stood in it would be done again with the next try.
    """

    @override
    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        with _for_as_long_as_it_takes(schema_editor):
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    @override
    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Build it again, as it was built."""
        name = schema_editor.quote_name(self.name)
        with _for_as_long_as_it_takes(schema_editor):
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            super().database_backwards(app_label, schema_editor, from_state, to_state)


@contextmanager
def _for_as_long_as_it_takes(schema_editor: Any) -> Iterator[None]:  # noqa: ANN401  (Django's)
    schema_editor.execute("SET statement_timeout = 0")
    schema_editor.execute("SET lock_timeout = 0")
    try:
        yield
    finally:
        schema_editor.execute("RESET lock_timeout")
        schema_editor.execute("RESET statement_timeout")
