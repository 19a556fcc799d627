"""A pool hands out no connection that has ended, and asks none that has not."""

import contextlib
import threading

import psycopg
import pytest
from django.db import OperationalError, connection
from psycopg_pool import ConnectionPool

from apps.core import statements, transactions
from config.connections import PooledConnection, WebConnection, hand_out_the_last
from config.settings._database import POOLS
from tests.chaos.house import address_of_tests
from tests.support import running, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


WEB = """
import config.rsgi
from django.db import connection

pool = connection.pool
pool.open(wait=True)
first, second = pool.getconn(), pool.getconn()
pool.putconn(second)
pool.putconn(first)
last = pool.getconn()
print("the one that came back last" if last is first else "another one", flush=True)
pool.close()
"""


def address_of_connection():
    address = connection.get_connection_params()
    for name in ("context", "prepare_threshold", "cursor_factory"):
        address.pop(name, None)
    return address


def pool_of(size):
    """Return a pool of so many, which opens with its block."""
    return ConnectionPool(
        kwargs=address_of_connection() | {"autocommit": True},
        connection_class=PooledConnection,
        check=ConnectionPool.check_connection,
        min_size=size,
        max_size=size,
        timeout=10,
        open=False,
    )


@pytest.fixture
def pool():
    with pool_of(1) as pool:
        yield pool


class TestHandOutTheLast:
    @pytest.fixture
    def three(self):
        pool = pool_of(3)
        hand_out_the_last(pool)
        with pool:
            pool.wait()
            yield pool

    def test_of_several_the_one_that_came_back_last_works_again_and_again(self, three):
        taken = [three.getconn() for _ in range(3)]
        for each in (taken[1], taken[2], taken[0]):
            three.putconn(each)

        again = []
        for _ in range(5):
            with three.connection() as used:
                again.append(used)
        all_of_them = [three.getconn() for _ in range(3)]

        assert again == [taken[0]] * 5
        assert all_of_them == [taken[0], taken[2], taken[1]]
        for each in all_of_them:
            three.putconn(each)

    def test_who_waits_for_one_is_served_in_the_order_they_came(self, three):
        taken = [three.getconn() for _ in range(3)]
        served = []

        def take(name):
            with three.connection():
                served.append(name)

        threads = [threading.Thread(target=take, args=[name]) for name in "abc"]
        for number, thread in enumerate(threads, 1):
            thread.start()
            wait_until(lambda n=number: three.get_stats()["requests_waiting"] == n)
        # One comes back and goes from hand to hand.
        three.putconn(taken.pop())
        for thread in threads:
            thread.join(10)

        assert served == ["a", "b", "c"]
        for each in taken:
            three.putconn(each)

    def test_where_one_is_dead_the_others_are_looked_at_too(self, three):
        taken = [three.getconn() for _ in range(3)]
        were = {one.info.backend_pid for one in taken}
        for one in taken:
            three.putconn(one)
        with psycopg.connect(**address_of_connection(), autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s) pid", [[*were]])

        taken = [three.getconn()]
        # All of them, by who asked for one.
        assert three.get_stats()["connections_lost"] == 3
        taken += [three.getconn() for _ in range(2)]

        assert were.isdisjoint(one.info.backend_pid for one in taken)
        for one in taken:
            three.putconn(one)

    def test_is_what_the_web_has_once_it_is_loaded(self):
        with running(
            "-c", WEB, DJANGO_SETTINGS_MODULE="config.settings.local", KASSA_ROLE="web",
            DATABASE_URL=address_of_tests(),
        ) as process:  # fmt: skip
            told, _ = process.communicate(timeout=60)

        assert process.returncode == 0, told
        assert told.strip().rpartition("\n")[2] == "the one that came back last"


def test_the_pools_of_the_settings_have_it():
    classes = {role: pool["connection_class"] for role, pool in POOLS.items()}
    assert classes == {"web": WebConnection, "threads": PooledConnection}


def test_one_that_works_is_handed_out_again_and_is_not_asked(pool):
    with pool.connection() as first:
        was = first.info.backend_pid
    for _ in range(3):
        with pool.connection() as again:
            assert again.info.backend_pid == was
            assert again.execute("SELECT 1").fetchone() == (1,)

    with connection.cursor() as cursor:
        cursor.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [was])
        # The last thing that it was asked was ours, and not the pool's empty question.
        assert cursor.fetchone() == ("SELECT 1",)


def test_one_that_the_server_ended_is_replaced(pool):
    with pool.connection() as first:
        was = first.info.backend_pid
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [was])

    def is_over() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [was])
            return cursor.fetchone() == (0,)

    wait_until(is_over)
    with pool.connection() as fresh:
        assert fresh.info.backend_pid != was
        assert fresh.execute("SELECT 1").fetchone() == (1,)


def test_one_that_was_closed_here_is_replaced(pool):
    with contextlib.suppress(psycopg.OperationalError), pool.connection() as first:
        was = first.info.backend_pid
        first.close()
    with pool.connection() as fresh:
        assert fresh.info.backend_pid != was


class Hasty(WebConnection):
    answer_seconds_max = 0.2


class TestAServerThatSaysNothing:
    """Here it sleeps; one that is stopped is in tests/chaos/test_database.py."""

    def test_is_given_up(self):
        with Hasty.connect(**address_of_connection(), autocommit=True) as hasty:
            with pytest.raises(psycopg.OperationalError):
                hasty.execute("SELECT pg_sleep(30)")

            assert hasty.closed

    def test_is_given_up_in_the_middle_of_a_copy(self):
        with Hasty.connect(**address_of_connection(), autocommit=True) as hasty:
            with (
                pytest.raises(psycopg.OperationalError),
                hasty.cursor() as cursor,
                cursor.copy(
                    "COPY (SELECT 1 UNION ALL SELECT 1 FROM pg_sleep(30)) TO STDOUT"
                ) as rows,
            ):
                list(rows)

            assert hasty.closed

    def test_is_not_taken_for_one_that_refuses(self):
        with Hasty.connect(**address_of_connection(), autocommit=True) as hasty:
            with pytest.raises(psycopg.OperationalError) as refused:
                hasty.execute("DO $$ BEGIN RAISE 'full' USING ERRCODE = '53100'; END $$")

            assert refused.value.sqlstate == "53100"
            assert hasty.execute("SELECT 1").fetchone() == (1,)

    def test_is_given_up_by_prepared_statements_too(self, monkeypatch):
        connection.ensure_connection()
        monkeypatch.setattr(connection.connection, "answer_seconds_max", 0.2, raising=False)
        was = connection.connection

        with pytest.raises(OperationalError):
            transactions.outermost(lambda: statements.run("SELECT pg_sleep(30)::text", {}))()

        assert was.closed
        assert statements.run("SELECT 1", {}) == [(1,)]
