"""The migration that lays events into weeks, and back, beside those who write."""

import threading
from importlib import import_module

import pytest
from django.db import IntegrityError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from apps.core import clock, partitions, planner
from apps.core.models import OutboxEvent
from tests.core.events_of_tests import opened
from tests.core.weeks_of_tests import (
    BATCHES,
    EVENTS,
    WEEK,
    begin_weeks,
    broken,
    happen,
    part_of,
    parts,
    run,
    where,
)
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def now():
    return clock.now()


@pytest.fixture(autouse=True)
def weeks(weeks_restored, transactional_db, now, monkeypatch):
    begin_weeks(now, monkeypatch)


class TestMigration:
    def test_takes_what_is_there_along_both_ways(self, now):
        for sequence, weeks in enumerate((30, 5, 0), 1):
            happen(now - weeks * WEEK, opened(sequence=sequence))
        before = list(OutboxEvent.objects.order_by("id").values())
        of_each = [run(f"SELECT * FROM {table} ORDER BY id") for table in partitions.TABLES]

        MigrationExecutor(connection).migrate([("core", "0008_weeks_of_events")])
        assert run("SELECT relkind FROM pg_class WHERE relname = 'core_outbox_event'") == [("r",)]
        assert [run(f"SELECT * FROM {table} ORDER BY id") for table in partitions.TABLES] == of_each
        for statement in ("UPDATE core_outbox_event SET name = ''", "TRUNCATE core_outbox_event"):
            with pytest.raises(IntegrityError):
                run(statement)

        self.go_on()
        assert list(OutboxEvent.objects.order_by("id").values()) == before
        assert where() == {"core_outbox_event_before": 3}
        assert part_of(now + 4 * WEEK) in parts(EVENTS)
        options = run(
            "SELECT DISTINCT reloptions, 1 FROM pg_class WHERE relname = ANY(%s)", parts(EVENTS)
        )
        assert options == [(["autovacuum_analyze_scale_factor=0.5"], 1)]
        happen(now + 3 * WEEK, opened(sequence=4))
        assert where()[part_of(now + 3 * WEEK)] == 1
        assert broken() == []

    @pytest.fixture
    def before(self):
        """The tables as they were, and afterwards as they are."""
        MigrationExecutor(connection).migrate([("core", "0008_weeks_of_events")])
        yield
        self.go_on()

    @staticmethod
    def go_on():
        forward = MigrationExecutor(connection)
        forward.migrate(forward.loader.graph.leaf_nodes())
        # The command says so by itself, and other tests look for it.
        planner.after_migrations(using="default")

    @staticmethod
    def meet(monkeypatch, other):
        """Have `other` called by a thread once all that takes long is done, and go on with it."""
        migration = import_module("apps.core.migrations.0009_events_lie_in_weeks")
        ready, real = threading.Event(), migration._lock
        thread = threading.Thread(target=other, args=(ready,))

        def lock(execute):
            thread.start()
            assert ready.wait(30)
            real(execute)

        monkeypatch.setattr(migration, "_lock", lock)
        return thread

    @staticmethod
    def is_waiting():
        return run("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = %s::regclass", BATCHES)

    def test_waits_for_who_writes_who_waits_for_nobody(self, before, monkeypatch):
        faults = []

        def write(ready):
            try:
                run(f"BEGIN; LOCK TABLE {BATCHES} IN ROW EXCLUSIVE MODE")
                ready.set()
                wait_until(lambda: bool(self.is_waiting()))
                run(f"LOCK TABLE {EVENTS} IN ROW EXCLUSIVE MODE; COMMIT")
            except BaseException as fault:  # noqa: BLE001  (told by the thread of the test)
                faults.append(fault)
            finally:
                connection.close()

        writer = self.meet(monkeypatch, write)

        self.go_on()

        writer.join(30)
        assert faults == []
        assert run("SELECT relkind FROM pg_class WHERE relname = %s", EVENTS) == [("p",)]

    def test_gives_up_before_those_behind_it_do_and_can_be_run_again(self, before, monkeypatch):
        over = threading.Event()

        def read(ready):
            run(f"BEGIN; LOCK TABLE {BATCHES} IN ACCESS SHARE MODE")
            ready.set()
            over.wait(30)
            run("COMMIT")
            connection.close()

        reader = self.meet(monkeypatch, read)

        with pytest.raises(OperationalError, match="lock timeout"):
            self.go_on()

        assert run("SELECT relkind FROM pg_class WHERE relname = %s", EVENTS) == [("r",)]
        over.set()
        reader.join(30)
        monkeypatch.undo()
        self.go_on()
        assert run("SELECT relkind FROM pg_class WHERE relname = %s", EVENTS) == [("p",)]
