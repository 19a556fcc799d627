from functools import partial

import pytest
from django.contrib.sessions.models import Session
from django.db import connection

from apps.core.errors import RuleViolation
from tests.support import empty_tables, race, running


def _insert_row() -> None:
    Session.objects.create(session_key="row", expire_date="2026-01-01T00:00:00Z")


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

    def test_leaves_the_guards_on_for_whoever_comes_next(self):
        _insert_row()

        empty_tables()

        with connection.cursor() as cursor:
            cursor.execute("SHOW session_replication_role")
            assert cursor.fetchone() == ("origin",)


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
