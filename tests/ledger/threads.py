"""Requests in threads of their own, and what holds them up: another connection, each other."""

import threading
from contextlib import contextmanager

from django.db import connection

from apps.core import context
from apps.ledger.operations import _grouping
from tests.support import wait_until


class Asking(threading.Thread):
    """One request in a thread of its own, as a web server has it."""

    def __init__(self, call, *, lock_timeout: str = "60s") -> None:
        super().__init__(daemon=True)
        self.call, self.lock_timeout = call, lock_timeout
        self.answer, self.fault, self.replayed = None, None, False
        self.start()

    def run(self) -> None:
        try:
            if self.lock_timeout:
                sql(f"SET lock_timeout = '{self.lock_timeout}'")
            self.answer = self.call()
        except BaseException as fault:  # noqa: BLE001  the thread of the test looks at it
            self.fault = fault
        finally:
            self.replayed = context.current().replayed
            connection.close()

    def ended(self) -> "Asking":
        self.join(60)
        assert not self.is_alive()
        return self


def sql(statement: str, *values: object) -> list:
    with connection.cursor() as cursor:
        cursor.execute(statement, list(values))
        return cursor.fetchall() if cursor.description else []


@contextmanager
def held(id_, *, table: str = "ledger_balance"):
    """Another connection holds the account's balance, as a long act of another process does."""
    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute(f"SELECT FROM {table} WHERE id = %s FOR NO KEY UPDATE", [id_])
    try:
        yield other.rollback
    finally:
        other.rollback()
        other.close()


def is_waiting() -> bool:
    """Whether anybody on this database waits for a lock."""
    return count_waiting() > 0


def count_waiting(*, seconds: float = 0) -> int:
    """How many on this database wait for a lock, in a statement that began so long ago."""
    [[count]] = sql(
        "SELECT COUNT(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND clock_timestamp() - query_start >= make_interval(secs => %s)",
        seconds,
    )
    return int(count)


def is_others_open() -> bool:
    """Whether anybody else on this database has a transaction open."""
    [[count]] = sql(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        " AND xact_start IS NOT NULL"
    )
    return count > 0


def gather(organization, account, first, *calls, lock_timeout: str = "") -> list[Asking]:
    """Ask all calls while the first one writes, which waits for the account: then let it go on."""
    with held(account):
        leader = Asking(first)
        wait_until(is_waiting)
        # One after the other, so that the first of them leads.
        asking = []
        for number, call in enumerate(calls, 1):
            asking.append(Asking(call, lock_timeout=lock_timeout))
            wait_until(lambda number=number: len(_grouping._queues[organization]) == number)
    return [asked.ended() for asked in (leader, *asking)]
