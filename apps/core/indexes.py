"""Indexes that a migration builds, or takes away, while others write."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, override

from django.contrib.postgres import operations
from django.db.migrations import AddConstraint


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


class AddUniqueConcurrently(AddConstraint):
    """
    Build the unique index of a constraint with a condition, as an index is built.

    Rows that break it leave the migration undone, and with it what an earlier try has left.
    """

    atomic = False

    @override
    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        name = schema_editor.quote_name(self.constraint.name)
        build = str(self.constraint.create_sql(model, schema_editor))
        begin = "CREATE UNIQUE INDEX "
        if not build.startswith(begin):
            msg = "A constraint without a condition is no index of its own."
            raise ValueError(msg)
        with _for_as_long_as_it_takes(schema_editor):
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            schema_editor.execute(build.replace(begin, f"{begin}CONCURRENTLY ", 1), params=None)


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
