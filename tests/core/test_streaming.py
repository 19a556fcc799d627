"""Rows that come portion by portion, and what becomes of them when nobody reads on."""

import pytest
from django.db import DataError, connection
from psycopg.types.string import StrDumper

from apps.core import statements, transactions
from apps.core.streaming import stream

pytestmark = pytest.mark.django_db(transaction=True)

NUMBERS = "SELECT n, md5(n::text) FROM generate_series(1, %s::int) AS n"


def count_cursors() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_cursors")
        return cursor.fetchone()[0]


@pytest.mark.parametrize("rows", [0, 1, 3, 6, 7])
@pytest.mark.parametrize("binary", [False, True])
def test_are_all_there_are(rows, binary):
    with transactions.snapshot():
        found = list(stream(NUMBERS, [rows], portion=3, binary=binary))
        assert count_cursors() == 0

    assert [number for number, _ in found] == list(range(1, rows + 1))


def test_of_two_that_are_read_in_turns_do_not_mix():
    with transactions.snapshot():
        one, other = (stream(NUMBERS, [rows], portion=2) for rows in (5, 6))
        assert [(a[0], b[0]) for a, b in zip(one, other, strict=False)] == [
            (n, n) for n in range(1, 6)
        ]


def test_are_fetched_as_they_are_wanted():
    """Postgres has not come to the row that it cannot make."""
    with transactions.snapshot():
        rows = stream("SELECT 1 / (5 - n) FROM generate_series(1, 9) AS n", [], portion=2)
        assert [next(rows)[0] for _ in range(4)] == [0, 0, 0, 1]
        assert count_cursors() == 1
        with pytest.raises(DataError, match="division by zero"):
            next(rows)


@pytest.mark.parametrize("nested_loops", [True, False])
def test_may_be_planned_without_nested_loops_and_nothing_else_is(nested_loops):
    with transactions.snapshot():
        rows = stream(
            "SELECT current_setting('enable_nestloop')", [], portion=1, nested_loops=nested_loops
        )
        list(rows)
        with connection.cursor() as cursor:
            cursor.execute("SHOW enable_nestloop")
            assert cursor.fetchone() == ("on",)


class TestThatNobodyReadsToTheEnd:
    @pytest.fixture
    def rows(self):
        with transactions.snapshot():
            rows = stream(NUMBERS, [9], portion=3)
            next(rows)
        return rows

    def test_disturb_no_later_transaction_as_they_are_thrown_away(self, rows):
        with transactions.snapshot(), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            rows.close()
            cursor.execute("SELECT 2")
            assert cursor.fetchone() == (2,)

    def test_disturb_no_exchange_that_waits_for_its_answers(self, rows):
        """Where anything else were said, its answer would be taken for one of these."""

        @transactions.outermost
        def act():
            first = statements.send("SELECT pg_sleep(0.05), %(n)s::int", {"n": 1})
            statements.start()
            rows.close()
            second = statements.send("SELECT %(n)s::int", {"n": 2})
            return first.rows(), second.rows()

        assert act() == ([(b"", 1)], [(2,)])

    def test_wait_for_nothing_while_a_statement_is_made(self, rows):
        """As where garbage is collected then: the driver's lock is taken, and by this thread."""

        class Collecting(StrDumper):
            def dump(self, obj):
                rows.close()
                return super().dump(obj)

        class Text(str):
            __slots__ = ()

        connection.connection.adapters.register_dumper(Text, Collecting)
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s::text", [Text("a")])
            assert cursor.fetchone() == ("a",)
        assert list(rows) == []

    def test_go_with_their_transaction(self, rows):
        with transactions.snapshot():
            assert count_cursors() == 0
        rows.close()
