"""An account is added while a file of it is being read: whoever comes second sees the other."""

import threading
from contextlib import contextmanager

import pytest
from django.db import connection

from apps.banking import operations
from apps.banking.models import BankAccount, BankFile, BankStatement
from apps.banking.tasks import import_due
from tests.banking.factories import ACTOR, HOLDER, NOW, create_organization
from tests.banking.statements import IBAN, Entry, Made, camt053
from tests.support import until_serialized, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

SECONDS = 60
FILE = camt053(Made(entries=(Entry(amount=100_00),), opening=5_00))


class Side(threading.Thread):
    """One of two: it stops, in its transaction, after a statement that begins so, until let on."""

    def __init__(self, call, *, stops_after=None):
        super().__init__(daemon=True)
        self.call, self.stops_after = call, stops_after
        self.has_stopped, self.may_go_on = threading.Event(), threading.Event()
        self.pid, self.fault = None, None

    def run(self):
        try:
            connection.ensure_connection()
            self.pid = connection.connection.info.backend_pid
            with connection.execute_wrapper(self._watch):
                until_serialized(self.call)
        except BaseException as fault:  # noqa: BLE001  raised again by the thread of the test
            self.fault = fault
        finally:
            connection.close()

    def _watch(self, execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if self.stops_after and sql.startswith(self.stops_after):
            self.has_stopped.set()
            assert self.may_go_on.wait(SECONDS)
        return result

    def is_held_up(self):
        """Say whether it waits for a lock, or is done: it does not get further by itself."""
        if not self.is_alive():
            return True
        with connection.cursor() as cursor:
            cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [self.pid])
            return bool(cursor.fetchone()[0])


@contextmanager
def stopped(side):
    """Have a side come to where it stops; in the end let it on and see it through."""
    side.start()
    assert side.has_stopped.wait(SECONDS), side.fault
    try:
        yield
    finally:
        side.may_go_on.set()
        side.join(SECONDS)


@pytest.fixture
def connected():
    return operations.add_bank_connection(
        organization_id=create_organization(),
        name="Our bank",
        channel="manual",
        idempotency_key="connection",
        actor=ACTOR,
        now=NOW,
    )


@pytest.fixture
def file(connected):
    return operations.receive_bank_file(
        organization_id=connected.organization_id,
        content=FILE,
        name="day.xml",
        actor=ACTOR,
        now=NOW,
    )


def adding(connected):
    def add():
        operations.add_bank_account(
            organization_id=connected.organization_id,
            connection_id=connected.id,
            name="Main",
            identification=IBAN,
            currency="EUR",
            holder=HOLDER,
            idempotency_key="account",
            actor=ACTOR,
            now=NOW,
        )

    return add


def meet(first, second):
    """Run the second side while the first stands in its transaction."""
    with stopped(first):
        second.start()
        wait_until(lambda: second.pid is not None and second.is_held_up(), seconds=SECONDS)
    second.join(SECONDS)
    for side in (first, second):
        assert not side.is_alive()
        if side.fault is not None:
            raise side.fault
    import_due()


def assert_taken(file):
    file.refresh_from_db()
    statement = BankStatement.objects.get()
    assert (file.state, statement.state) == ("imported", "imported")
    assert statement.bank_account == BankAccount.objects.get()
    assert BankFile.objects.count() == 1


def test_added_after_the_reader_looked_for_it(connected, file):
    reader = Side(import_due, stops_after='INSERT INTO "banking_statement"')

    meet(reader, Side(adding(connected)))

    assert_taken(file)


def test_added_and_not_committed_when_the_reader_looks_for_it(connected, file):
    adder = Side(adding(connected), stops_after='SELECT DISTINCT "banking_statement"')

    meet(adder, Side(import_due))

    assert_taken(file)
