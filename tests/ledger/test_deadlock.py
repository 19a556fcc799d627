"""
A deadlock with a session that does not keep our order of locks: the act runs again, whole.

A transfer alone meets none: it gives way to who has its accounts before Postgres looks for one.
"""

import random
import threading
from contextlib import contextmanager
from unittest import mock

import pytest
from django.db import connection
from structlog.testing import capture_logs

from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey, OutboxEvent
from apps.ledger import operations
from apps.ledger.errors import InsufficientFunds
from apps.ledger.models import HoldEvent, JournalEntry, Posting
from apps.ledger.operations import HoldRequest, TransferRequest
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    open_account,
)
from tests.ledger.server import deadlocks
from tests.ledger.threads import Asking
from tests.support import is_serializable, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    """Ann has 100; her account is the first that anybody locks, and Bob's the second."""
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR")
    bob = open_account(organization, "wallets:bob:EUR")
    assert ann < bob
    fund(organization, ann, 100)
    return organization, ann, bob


def transfers(organization, ann, bob):
    asked = TransferRequest(
        debit_account_id=ann, credit_account_id=bob, amount_minor=30, currency="EUR"
    )
    return operations.post_transfers(
        organization_id=organization, transfers=[asked, asked], mode="atomic",
        idempotency_key="k", actor=ACTOR, now=NOW,
    )  # fmt: skip


def hold(organization, ann, bob):
    return operations.place_hold(
        organization_id=organization,
        hold=HoldRequest(
            debit_account_id=ann, credit_account_id=bob, amount_minor=60, currency="EUR"
        ),
        idempotency_key="k", actor=ACTOR, now=NOW,
    )  # fmt: skip


# Postgres looks for a deadlock once a session has waited for a while (`deadlock_timeout`), and ends
# the one that looked. So who is to be ended has to wait first, and the other asks when half of that
# while is over: whoever of the two is slow to wake, the first one looks first, and finds it.
ASK_ONCE_WAITED_FOR = """
    DO $$ BEGIN
        WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted
                             AND transactionid = pg_current_xact_id()::xid) LOOP
            PERFORM pg_sleep(0.001);
        END LOOP;
        PERFORM pg_sleep(extract(epoch FROM current_setting('deadlock_timeout')::interval) / 2);
        PERFORM FROM ledger_balance WHERE id = '{}' FOR NO KEY UPDATE;
    END $$
"""


@contextmanager
def of_two(books, act):
    """
    Run the act into a deadlock that Postgres ends by ending the act's transaction.

    A foreign session has Bob's account; the act has Ann's, and waits for Bob's; then the session
    asks for Ann's, which it gets once the act is rolled back. The act goes on when this is left.

    Its pause ends once the session has Ann's: after one of no length the act could be there first,
    where Postgres is slow to wake the session, and there would be a second deadlock.
    """
    organization, ann, bob = books
    before = deadlocks()
    has_both = threading.Event()

    def pause_until_it_has(*_: float) -> float:
        assert has_both.wait(30)
        return 0

    foreign = connection.copy()
    foreign.set_autocommit(False)
    try:
        with (
            foreign.cursor() as cursor,
            capture_logs() as logs,
            mock.patch.object(random, "uniform", pause_until_it_has),
        ):
            cursor.execute("SELECT FROM ledger_balance WHERE id = %s FOR NO KEY UPDATE", [bob])
            asking = Asking(lambda: act(organization, ann, bob))
            cursor.execute(ASK_ONCE_WAITED_FOR.format(ann))
            has_both.set()
            yield cursor, asking
            foreign.commit()
            asking.ended()
    finally:
        foreign.rollback()
        foreign.close()

    # It ran again: once, and for this reason. Where what it saw is not to change either, once more.
    again = [line["fault"] for line in logs if line["event"] == "transaction_again"]
    assert again == ["40P01"] or (is_serializable() and again == ["40P01", "40001"])
    wait_until(lambda: deadlocks() == before + 1)


class TestABatch:
    def test_is_posted_by_its_second_run_and_once(self, books):
        organization, ann, bob = books

        with of_two(books, transfers) as (_, asking):
            assert JournalEntry.objects.filter(organization_id=organization).count() == 1

        assert asking.fault is None
        assert asking.answer.amounts == (30, 30)
        assert [
            (row.posted, row.available, row.version)
            for row in (balance(organization, id_) for id_ in (ann, bob))
        ] == [(40, 40, 3), (60, 60, 2)]
        assert Posting.objects.filter(entry_id__in=asking.answer.entry_ids).count() == 4
        assert JournalEntry.objects.filter(organization_id=organization).count() == 3
        assert IdempotencyKey.objects.filter(organization_id=organization).count() == 1
        assert transfers(*books).entry_ids == asking.answer.entry_ids
        assert breaches() == []

    def test_is_decided_by_what_the_other_has_left(self, books):
        """The first run had seen that there was enough; what it saw is of no account any more."""
        organization, ann, bob = books

        with of_two(books, transfers) as (cursor, asking):
            cursor.execute(
                "UPDATE ledger_balance SET min_available_minor = 50 WHERE id = %s", [ann]
            )

        assert isinstance(asking.fault, InsufficientFunds)
        assert asking.fault.details["index"] == 1
        assert asking.fault.details["min_available"] == 50
        assert (balance(organization, ann).posted, balance(organization, bob).posted) == (100, 0)
        assert JournalEntry.objects.filter(organization_id=organization).count() == 1
        assert breaches() == []


class TestAHold:
    def test_is_placed_by_its_second_run_and_once(self, books):
        organization, ann, bob = books

        with of_two(books, hold) as (_, asking):
            assert not HoldEvent.objects.exists()

        assert asking.fault is None
        assert (balance(organization, ann).available, balance(organization, ann).posted) == (
            40,
            100,
        )
        assert HoldEvent.objects.count() == 1
        assert OutboxEvent.objects.filter(name="ledger.hold.placed").count() == 1
        assert balance(organization, bob).pending_in == 60
        assert breaches() == []
