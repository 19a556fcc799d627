import socket
from functools import partial

import psycopg
import pytest
from django.contrib.sessions.models import Session
from django.db import IntegrityError, connection

from apps.core import statements
from apps.core.errors import RuleViolation
from apps.core.models import OutboxBatch, OutboxEvent
from tests.core.events_of_tests import opened, publish
from tests.snapshots import from_snapshot
from tests.support import (
    empty_tables,
    free_port,
    list_filled_tables,
    race,
    renew_connection,
    running,
)


def _insert_row() -> None:
    Session.objects.create(session_key="row", expire_date="2026-01-01T00:00:00Z")


def _rows_deleted() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT n_tup_del FROM pg_stat_user_tables WHERE relname = %s", [Session._meta.db_table]
        )
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
class TestRace:
    def test_runs_each_call_on_its_own_connection(self):
        def find_process() -> int:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                return cursor.fetchone()[0]

        processes = race(*[find_process] * 4)

        assert len(set(processes)) == 4

    def test_returns_results_and_refusals_in_the_order_of_the_calls(self):
        def refuse() -> None:
            raise RuleViolation("No.")

        first, second = race(partial(int, "1"), refuse)

        assert (first, type(second)) == (1, RuleViolation)

    def test_fails_on_a_fault(self):
        with pytest.raises(BaseExceptionGroup) as caught:
            race(partial(int, "1"), partial(int, "one"))

        assert caught.group_contains(ValueError)


@pytest.mark.django_db
def test_a_race_without_commits_is_refused():
    with pytest.raises(RuntimeError, match="transaction=True"):
        race(int)


@pytest.mark.django_db(transaction=True)
class TestCleanUp:
    def test_empties_what_was_committed(self):
        _insert_row()

        empty_tables()

        assert not Session.objects.exists()

    def test_counts_the_rows_it_read_before_the_next_test_counts_its_own(self):
        _insert_row()
        # Whoever has just counted what they read puts off what comes next.
        list_filled_tables()
        list_filled_tables()
        before = _rows_deleted()

        empty_tables()

        assert _rows_deleted() == before + 1

    def test_leaves_the_guards_on_for_whoever_comes_next(self):
        _insert_row()

        empty_tables()

        with connection.cursor() as cursor:
            cursor.execute("SHOW session_replication_role")
            assert cursor.fetchone() == ("origin",)


@pytest.mark.django_db(transaction=True)
class TestRenewConnection:
    @pytest.fixture
    def first(self):
        return self.find_process()

    def find_process(self) -> int:
        [(process,)] = statements.run("SELECT pg_backend_pid()", {})
        return process

    def test_keeps_the_connection_and_nothing_that_was_set_or_prepared(self, first):
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            given = cursor.fetchone()[0]
            cursor.execute("SET lock_timeout = '7s'; CREATE TEMPORARY TABLE left_over (a int)")

        renew_connection()

        assert self.find_process() == first
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('lock_timeout'), to_regclass('left_over')")
            assert cursor.fetchone() == (given, None)

    def test_gives_up_one_whose_transaction_is_open(self, first):
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")

        renew_connection()

        assert self.find_process() != first

    def test_gives_up_one_that_postgres_ended(self, first):
        with psycopg.connect(**connection.get_connection_params()) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [first])

        renew_connection()

        assert self.find_process() != first


@pytest.mark.django_db(transaction=True)
def test_a_snapshot_has_the_rows_that_were_built_and_builds_them_once():
    built = []

    def build() -> Session:
        built.append(1)
        Session.objects.create(
            session_key="row", session_data="a\tb\\n\u00e9", expire_date="2026-01-01T00:00:00Z"
        )
        publish(opened())
        return Session.objects.get()

    first = from_snapshot(build), rows()
    empty_tables()
    again = from_snapshot(build), rows()

    assert again == first
    assert built == [1]
    with pytest.raises(IntegrityError, match="append"):
        OutboxEvent.objects.update(name="x")


def rows() -> list[tuple]:
    """Return every row of the tables that the snapshot is made of, one of them in parts."""
    return [
        *Session.objects.values_list(),
        *OutboxEvent.objects.values_list(),
        *OutboxBatch.objects.values_list(),
    ]


@pytest.mark.django_db(transaction=True)
def test_a_process_of_a_test_works_on_the_database_of_the_test():
    _insert_row()

    with running("-c", COUNT_ROWS) as process:
        output, _ = process.communicate(timeout=30)

    assert output.strip() == "1"


COUNT_ROWS = """
import django
django.setup()
from django.contrib.sessions.models import Session
print(Session.objects.count())
"""


def test_a_free_port_is_for_the_server_of_the_test_and_given_to_nobody_else():
    port = free_port()

    with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
        assert free_port() != port
