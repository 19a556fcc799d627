"""What runs beside a test, and into a lock that the test holds."""

from __future__ import annotations

import contextlib
import threading

from django.db import connection as database

from tests.support import wait_until


def is_anybody_waiting():
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock')"
        )
        return cursor.fetchone()[0]


@contextlib.contextmanager
def beside(call):
    """Have a thread run this meanwhile; what it raises is raised when the block ends."""
    faults = []

    def run():
        try:
            call()
        except BaseException as fault:  # noqa: BLE001  raised again by the thread of the test
            faults.append(fault)
        finally:
            database.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        assert not thread.is_alive()
    if faults:
        raise faults[0]


@contextlib.contextmanager
def held_up(call, sql, parameters):
    """Have a thread run into the lock that the SQL takes; the block ends by taking it back."""
    other = database.copy("other")
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            cursor.execute(sql, parameters)
        with beside(call):
            try:
                wait_until(is_anybody_waiting)
                yield other
            finally:
                other.rollback()
    finally:
        other.close()
