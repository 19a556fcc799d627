"""An index is built beside writers, however long it takes and whatever an earlier try has left."""

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import psycopg
import pytest
from django.contrib.postgres import operations
from django.db import IntegrityError, OperationalError, ProgrammingError, connection, models
from django.db.migrations.loader import MigrationLoader

from apps.core.changes import listed
from apps.core.ids import new_id
from apps.core.indexes import AddIndexConcurrently, AddUniqueConcurrently, RemoveIndexConcurrently
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


NAMED_ONCE = models.UniqueConstraint(
    name="errand_is_named_once", fields=["name"], condition=models.Q(times_done=0)
)


def build_unique(constraint=NAMED_ONCE):
    state = SimpleNamespace(apps=SimpleNamespace(get_model=lambda *_: Errand))
    with connection.schema_editor(atomic=False) as editor:
        operation = AddUniqueConcurrently("errand", constraint)
        operation.database_forwards("core", editor, state, state)


def is_unique_and_valid():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indisunique AND indisvalid FROM pg_index WHERE indexrelid = %s::regclass",
            [NAMED_ONCE.name],
        )
        return cursor.fetchone()[0]


class TestAddUniqueConcurrently:
    def test_is_not_cut_off(self, limit):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [pid] = cursor.fetchone()
        put_in_force(limit)
        with written_to() as end:
            ending = threading.Thread(target=end_once_waited_for, args=(end,), kwargs={"pid": pid})
            ending.start()

            build_unique()

            ending.join()
        assert is_unique_and_valid()

    def test_of_rows_that_break_it_is_built_once_they_are_mended(self):
        with errands.installed():
            for times_done in (0, 0, 1):
                Errand.objects.create(organization_id=new_id(), name="twice", times_done=times_done)

            with pytest.raises(IntegrityError):
                build_unique()

            assert not is_unique_and_valid()
            Errand.objects.filter(id=Errand.objects.order_by("id").first().id).delete()
            build_unique()
            assert is_unique_and_valid()

    def test_of_all_rows_is_refused_since_that_is_no_index_alone(self):
        with errands.installed(), pytest.raises(ValueError, match="condition"):
            build_unique(models.UniqueConstraint(name="errand_is_named_once", fields=["name"]))


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
