"""A pool hands out no connection that has ended, and asks none that has not."""

import contextlib

import psycopg
import pytest
from django.db import connection
from psycopg_pool import ConnectionPool

from config.connections import PooledConnection
from config.settings._database import POOLS
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pool():
    address = connection.get_connection_params() | {"autocommit": True}
    for name in ("context", "prepare_threshold", "cursor_factory"):
        address.pop(name, None)
    with ConnectionPool(
        kwargs=address,
        connection_class=PooledConnection,
        check=ConnectionPool.check_connection,
        min_size=1,
        max_size=1,
        timeout=10,
    ) as pool:
        yield pool


def test_the_pools_of_the_settings_have_it():
    assert {pool["connection_class"] for pool in POOLS.values()} == {PooledConnection}


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
