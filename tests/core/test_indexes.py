"""An index is built beside writers, however long it takes and whatever an earlier try has left."""

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import psycopg
import pytest
from django.contrib.postgres import operations
from django.db import OperationalError, ProgrammingError, connection, models
from django.db.migrations.loader import MigrationLoader

from apps.core.changes import listed
from apps.core.indexes import AddIndexConcurrently, RemoveIndexConcurrently
from tests.core import errands
from tests.core.errands import Errand
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

INDEX = models.Index(name="errand_by_name", fields=["name"])


def build(operation):
    """Have a migration's operation done to the table of errands."""
    state = SimpleNamespace(apps=SimpleNamespace(get_model=lambda *_: Errand))
    with connection.schema_editor(atomic=False) as editor:
        operation("errand", INDEX).database_forwards("core", editor, state, state)


def remove(operation, direction="database_forwards"):
    """Have the index of errands taken away by a migration's operation, or put back."""
    models_state = {("core", "errand"): SimpleNamespace(get_index_by_name=lambda _: INDEX)}
    state = SimpleNamespace(apps=SimpleNamespace(get_model=lambda *_: Errand), models=models_state)
    with connection.schema_editor(atomic=False) as editor:
        getattr(operation("errand", INDEX.name), direction)("core", editor, state, state)


def is_valid():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", [INDEX.name]
        )
        return cursor.fetchone()[0]


@contextmanager
def written_to():
    """Have a transaction write errands, for which a build waits; give a way to end it."""
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("LOCK TABLE tests_errand IN ROW EXCLUSIVE MODE")
        yield other.commit


def end_once_waited_for(end, *, pid):
    """Let the build go on once it has waited for longer than the timeout of these tests."""

    def has_waited():
        with psycopg.connect(**connection.get_connection_params()) as looking:
            return (
                looking.execute(
                    "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
                    " AND clock_timestamp() - query_start > interval '400 ms'",
                    [pid],
                ).rowcount
                > 0
            )

    try:
        wait_until(has_waited)
    finally:
        end()


@pytest.fixture(params=["statement", "lock"])
def limit(request):
    """What is limited: a statement's time, or for how long it waits for a lock."""
    with errands.installed():
        yield request.param
        with connection.cursor() as cursor:
            cursor.execute(f"RESET {request.param}_timeout")


def put_in_force(limit):
    """Limit what follows; an index that the test needs is built before, however long it takes."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET {limit}_timeout = '200ms'")


class TestAddIndexConcurrently:
    def test_is_not_cut_off_and_replaces_what_was(self, limit):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [pid] = cursor.fetchone()
        put_in_force(limit)
        with written_to() as end:
            with pytest.raises(OperationalError, match=f"{limit} timeout"):
                build(operations.AddIndexConcurrently)
            assert not is_valid()
            ending = threading.Thread(target=end_once_waited_for, args=(end,), kwargs={"pid": pid})
            ending.start()

            build(AddIndexConcurrently)

            ending.join()
        assert is_valid()

    def test_and_its_counterpart_are_what_every_migration_has(self):
        djangos = {operations.AddIndexConcurrently, operations.RemoveIndexConcurrently}
        others = [
            str(migration)
            for migration in MigrationLoader(None).disk_migrations.values()
            for operation in listed(migration.operations)
            if type(operation) in djangos
        ]

        assert others == []


class TestRemoveIndexConcurrently:
    def test_is_not_cut_off(self, limit):
        # Ours would leave no limit of this test's behind.
        build(operations.AddIndexConcurrently)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [pid] = cursor.fetchone()
        put_in_force(limit)
        with written_to() as end:
            with pytest.raises(OperationalError, match=f"{limit} timeout"):
                remove(operations.RemoveIndexConcurrently)
            ending = threading.Thread(target=end_once_waited_for, args=(end,), kwargs={"pid": pid})
            ending.start()

            remove(RemoveIndexConcurrently)

            ending.join()
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s)", [INDEX.name])
            assert cursor.fetchone() == (None,)

    def test_is_taken_back_whatever_an_earlier_try_has_left(self, limit):
        build(operations.AddIndexConcurrently)
        put_in_force(limit)
        with pytest.raises(ProgrammingError, match="already exists"):
            remove(operations.RemoveIndexConcurrently, "database_backwards")

        remove(RemoveIndexConcurrently, "database_backwards")

        assert is_valid()
