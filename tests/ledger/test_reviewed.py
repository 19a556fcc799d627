"""What a review found: each of these once went wrong."""

import threading
from functools import partial

import psycopg
import pytest
from django.db import IntegrityError, connection

from apps.core import context
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.core.models import AuditEvent
from apps.ledger import operations
from apps.ledger.operations import _grouping
from apps.ledger.rules import PlaceHold, State, VoidHold, apply
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    open_account,
    post_transfer,
)
from tests.ledger.pure import A, B, hold, move, state

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    ann, bob, cleo = (open_account(organization, f"wallets:{n}:EUR") for n in ("a", "b", "c"))
    fund(organization, ann, 100)
    return organization, ann, bob, cleo


class TestASetOfReversals:
    @pytest.mark.parametrize("turn", [1, -1])
    def test_is_netted_as_a_whole_in_whatever_order_it_is_named(self, books, turn):
        organization, ann, bob, cleo = books
        first = post_transfer(organization, ann, bob, 100, key="1").entry_id
        second = post_transfer(organization, bob, cleo, 100, key="2").entry_id

        result = operations.reverse_entries(
            organization_id=organization, entry_ids=[first, second][::turn], at="now", reason="",
            idempotency_key="r", actor=ACTOR, now=NOW,
        )  # fmt: skip

        assert balance(organization, ann).available == 100
        assert len(result.entry_ids) == 2
        assert breaches() == []


class TestAChainThatFails:
    def test_gives_a_reference_back_to_the_hold_that_had_it(self):
        first = hold(10, reference="r")
        begun, _ = apply(state(a=100), [first])
        chain = [
            VoidHold(hold_id=first.id, linked=True),
            PlaceHold(id=new_id(), debit_account_id=A, credit_account_id=B, amount_minor=5,
                      currency="EUR", reference="r", linked=True),
            move(A, B, 1000),
        ]  # fmt: skip

        after, outcomes = apply(begun, [*chain, hold(10, reference="r")])

        assert isinstance(after, State)
        assert outcomes[-1].status == "replayed"
        assert outcomes[-1].hold.id == first.id


class TestAFaultInAPipeline:
    def test_leaves_no_connection_in_pipeline_mode(self, books):
        """A statement fails, another one is behind it, and the rollback is an ordinary one."""
        organization, ann, bob, _ = books
        with connection.cursor() as cursor:
            # The next entry's second posting finds its place taken: a fault of the write statement.
            cursor.execute(
                "ALTER TABLE ledger_balance ADD CONSTRAINT no_more CHECK (version < 3) NOT VALID"
            )
        try:
            raw = connection.connection
            post_transfer(organization, ann, bob, 1, key="k-0")
            with pytest.raises(IntegrityError, match="no_more"):
                post_transfer(organization, ann, bob, 1, key="k-1")
            assert connection.connection is raw
            assert raw.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            assert raw.pgconn.pipeline_status == psycopg.pq.PipelineStatus.OFF
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE ledger_balance DROP CONSTRAINT no_more")
        assert post_transfer(organization, ann, bob, 1, key="after").entry_id
        assert breaches() == []


class TestAForcedTransferOfAGroup:
    def test_is_audited_under_its_own_request(self, books):
        organization, ann, bob, _ = books
        release, done = threading.Event(), []

        def ask(number: int) -> None:
            context.begin(request_id=f"req-{number}")
            release.wait(10)
            post_transfer(organization, ann, bob, 1, key=f"k-{number}", force=True)
            done.append(number)
            connection.close()

        threads = [threading.Thread(target=partial(ask, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        release.set()
        for thread in threads:
            thread.join(30)

        assert sorted(done) == list(range(8))
        found = AuditEvent.objects.filter(act="ledger.force_transfer")
        assert sorted(found.values_list("request_id", flat=True)) == [f"req-{n}" for n in range(8)]


class TestAThreadThatEndsWhileItWaits:
    def test_leaves_no_queue_without_a_writer(self, books, monkeypatch):
        organization, ann, bob, _ = books
        _grouping._queues[organization] = []

        def end() -> None:
            raise SystemExit

        monkeypatch.setattr(_grouping.transactions, "release_connection", end)
        with pytest.raises(SystemExit):
            post_transfer(organization, ann, bob, 1, key="k")
        monkeypatch.undo()

        assert _grouping._queues[organization] == []
        del _grouping._queues[organization]
        assert post_transfer(organization, ann, bob, 1, key="k").entry_id

    def test_as_its_turn_to_write_has_come_hands_it_on(self, books, monkeypatch):
        organization, ann, bob, _ = books
        _grouping._queues[organization] = []

        def end() -> None:
            # Whoever wrote is done, and this one is to write next.
            _grouping._hand_on(organization)
            raise SystemExit

        monkeypatch.setattr(_grouping.transactions, "release_connection", end)
        with pytest.raises(SystemExit):
            post_transfer(organization, ann, bob, 1, key="k")
        monkeypatch.undo()

        assert organization not in _grouping._queues
        assert post_transfer(organization, ann, bob, 1, key="k").entry_id
