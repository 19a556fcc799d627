"""Real processes, killed with SIGKILL while they freeze, write and send: nothing is paid twice."""

import contextlib
import json
import urllib.request
from datetime import timedelta
from hashlib import sha256

import pytest
from django.db import connection
from django.db.models.functions import Now

from apps.banking.models import BankFile
from apps.core import clock, work
from apps.payouts import operations, tasks
from apps.payouts.models import BatchWork, Payout, PayoutAttempt, PayoutBatch
from tests.payouts import factories
from tests.payouts.factories import CUT_OFF, available, file_of, request
from tests.support import (
    empty_broker,
    free_port,
    kill_hard,
    running,
    running_worker,
    wait_until,
)

pytestmark = pytest.mark.django_db(transaction=True)

FREEZE = f"""
import django; django.setup()
from datetime import datetime
from apps.payouts import tasks
list(tasks.freeze_due("", datetime.fromisoformat("{CUT_OFF.isoformat()}")))
"""
WORK = """
import django; django.setup()
from apps.payouts import tasks
tasks.work_batches()
"""


@pytest.fixture(autouse=True)
def _empty_broker():
    empty_broker()
    yield
    empty_broker()


@pytest.fixture
def payouts(home, customer, target):
    return [request(home, target, 10_00, remittance=f"number {n}") for n in range(20)]


@contextlib.contextmanager
def table_locked(name):
    """Let nobody touch a table, so that whoever does stands still where we want him killed."""
    other = connection.copy()
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        other.rollback()
        other.close()


def is_waited_for(table):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = %s::regclass AND NOT granted)",
            [table],
        )
        return cursor.fetchone()[0]


def kill_at(table, code):
    """Run the code as a process, and kill it once it waits for the table."""
    with table_locked(table), running("-c", code) as process:
        wait_until(lambda: is_waited_for(table))
        kill_hard(process)


def make_due(step):
    BatchWork.objects.filter(step=step).update(next_attempt_at=Now() - timedelta(seconds=1))


def swept(condition):
    """Sweep before each look, as beat does each second: a step's nudge may be one too many."""

    def look() -> bool:
        work.sweep()
        return condition()

    return look


class Bank:
    """The sandbox bank as a process of its own."""

    def __init__(self, url):
        self.url = url

    def call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.url}{path}", data=data)  # noqa: S310  (ours)
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310  (ours)
            return json.loads(answer.read())

    def is_up(self):
        with contextlib.suppress(OSError):
            return self.call("/health")["status"] == "ok"
        return False

    def has(self, message_id):
        with contextlib.suppress(OSError):
            return self.call(f"/bank/messages/{message_id}")
        return None


@pytest.fixture
def bank(tmp_path, settings):
    port = free_port()
    settings.SANDBOX_URL = f"http://127.0.0.1:{port}"
    with running(
        "-m", "sandbox", "--database", str(tmp_path / "bank.sqlite3"), "serve", "--port", str(port)
    ):
        bank = Bank(settings.SANDBOX_URL)
        wait_until(bank.is_up)
        yield bank


class TestFreezing:
    def test_killed_halfway_freezes_nothing_and_then_everything_once(self, home, customer, payouts):
        kill_at("payouts_batch_work", FREEZE)

        assert PayoutBatch.objects.count() == 0
        assert set(Payout.objects.values_list("state", flat=True)) == {"scheduled"}
        assert available(home, customer) == 4_800_00

        list(tasks.freeze_due("", CUT_OFF))

        batch = PayoutBatch.objects.get()
        assert (batch.attempt_count, batch.total_minor) == (20, 200_00)
        assert PayoutAttempt.objects.count() == 20


class TestWriting:
    def test_killed_before_it_is_stored_is_mended_with_the_same_bytes(self, home, payouts):
        list(tasks.freeze_due("", CUT_OFF))
        batch = PayoutBatch.objects.get()
        expected = operations.write_file(batch)
        kill_at("banking_file", WORK)
        batch.refresh_from_db()
        assert (batch.state, BankFile.objects.count()) == ("released", 0)

        make_due("export")
        tasks.work_batches()

        batch.refresh_from_db()
        written, content = file_of(batch)
        assert batch.state == "exported"
        assert written.message_id == batch.message_id
        assert sha256(content).digest() == sha256(expected).digest()
        assert BankFile.objects.filter(direction="out").count() == 1


class TestSending:
    @pytest.fixture
    def home(self, settings):
        settings.PAYOUT_COOLDOWN_HOURS = 0
        return factories.world("sandbox")

    def test_killed_after_the_bank_took_it_is_never_sent_again(self, home, customer, payouts, bank):
        bank.call("/control", {"behaviour": "timeout_after", "options": {"seconds": 60}})
        list(tasks.freeze_due("", CUT_OFF))
        batch = PayoutBatch.objects.get()
        with running_worker("money", pool="threads", SANDBOX_URL=bank.url) as worker:
            wait_until(swept(lambda: bank.has(batch.message_id) is not None))
            kill_hard(worker)
        batch.refresh_from_db()
        assert (batch.state, batch.submitted_at) == ("exported", None)
        assert batch.send_started_at is not None

        make_due("send")
        tasks.work_batches()

        batch.refresh_from_db()
        assert batch.state == "unknown"
        assert set(Payout.objects.values_list("state", flat=True)) == {"unknown"}
        assert available(home, customer) == 4_800_00

        make_due("status")
        tasks.work_batches()

        batch.refresh_from_db()
        assert batch.state == "submitted"
        assert factories.balances(home)["payouts:in_transit"] == 200_00
        answers = bank.call("/bank/files?after=0")["files"]
        assert [file["kind"] for file in answers].count("pain.002") == 1

    def test_killed_before_the_bank_took_it_stays_reserved(self, home, customer, payouts, bank):
        bank.call("/control", {"behaviour": "timeout_before", "options": {"seconds": 60}})
        list(tasks.freeze_due("", CUT_OFF))
        batch = PayoutBatch.objects.get()
        with running_worker("money", pool="threads", SANDBOX_URL=bank.url) as worker:
            wait_until(swept(lambda: PayoutBatch.objects.get().send_started_at is not None))
            kill_hard(worker)

        make_due("send")
        tasks.work_batches()
        make_due("status")
        tasks.work_batches()

        # Whether bytes are still on their way nobody knows: only two people may say they are not.
        batch.refresh_from_db()
        assert batch.state == "unknown"
        assert available(home, customer) == 4_800_00
        assert BatchWork.objects.get(step="status").next_attempt_at > clock.now()

    def test_goes_from_freeze_to_settlement_by_itself(self, home, customer, payouts, bank):
        list(tasks.freeze_due("", CUT_OFF))
        for step in ("export", "send"):
            make_due(step)
            tasks.work_batches()
        make_due("fetch")
        tasks.work_batches()

        batch = PayoutBatch.objects.get()
        assert batch.state in {"acknowledged", "accepted", "submitted", "reconciled"}
        assert factories.balances(home)["customers:available"] == 4_800_00
