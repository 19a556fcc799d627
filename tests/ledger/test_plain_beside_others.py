"""Plain transfers beside others: what they lock, what they wait for, and what is lost."""

from contextlib import contextmanager
from functools import partial

import pytest
from django.db import OperationalError, connection
from psycopg.errors import SerializationFailure
from structlog.testing import capture_logs

from apps.core import transactions
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey, OutboxEvent
from apps.ledger import operations
from apps.ledger.errors import InsufficientFunds
from apps.ledger.models import JournalEntry
from apps.ledger.operations import _grouping, _plain
from tests.core.wire import wired
from tests.ledger.factories import (
    balance,
    open_account,
    post_transfer,
)
from tests.ledger.plain import make_books, ticket, waiting
from tests.ledger.threads import Asking, held, sql
from tests.support import race, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    return make_books()


@contextmanager
def changing(account, set_):
    """Another connection changes an account, and is committed by what is yielded."""
    other = connection.copy()
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            cursor.execute(f"UPDATE ledger_balance SET {set_} WHERE id = %s", [account])
        yield other.commit
    finally:
        other.close()


class TestWaiting:
    def test_is_what_waits_for_an_account_that_somebody_holds(self, books):
        """Not for long; then the engine waits, and the key is its own."""
        organization, ann, bob = books
        with held(bob) as let_go:
            asked = Asking(partial(post_transfer, organization, ann, bob, 1, key="k"))
            # By now the engine does: it asks for keys with an account each.
            wait_until(lambda: any("core_idempotency_key" in row[0] for row in waiting()))
            let_go()
            asked.ended()

        assert asked.fault is None
        assert asked.replayed is False
        assert balance(organization, bob).available == 1
        assert IdempotencyKey.objects.get().resource_id == asked.answer.entry_id
        assert breaches() == []

    def test_is_what_waits_for_a_key_whose_request_is_under_way(self, books):
        organization, ann, bob = books
        other = connection.copy()
        other.set_autocommit(False)
        try:
            with other.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO core_idempotency_key (organization_id, key, operation,"
                    " fingerprint, prefix, resource_id) VALUES (%s, 'k', 'x', '', 'je', %s)",
                    [organization, new_id()],
                )
            asked = Asking(
                partial(post_transfer, organization, ann, bob, 1, key="k"), lock_timeout="300ms"
            ).ended()
        finally:
            other.rollback()
            other.close()

        assert asked.fault.code == "request_in_progress"
        assert balance(organization, bob).available == 0
        assert post_transfer(organization, ann, bob, 1, key="k").outcome is not None

    def test_is_one_whose_money_went_while_it_waited(self, books, patient):
        """It was covered as it was looked at, and is not under the lock: nothing of it stands."""
        organization, ann, bob = books
        with changing(ann, "pending_debits = 10000") as commit:
            asked = Asking(partial(post_transfer, organization, ann, bob, 1, key="k"))
            wait_until(lambda: any("kassa_post_transfer" in row[0] for row in waiting()))
            with capture_logs() as said:
                commit()
                asked.ended()

        assert type(asked.fault) is InsufficientFunds
        # As is to be expected: it is no fault that anybody has to look at.
        assert [one for one in said if one["event"].startswith("plain")] == []
        assert JournalEntry.objects.filter(kind="transfer").count() == 1
        assert IdempotencyKey.objects.get().refusal_code == "insufficient_funds"
        assert OutboxEvent.objects.filter(data__kind="transfer").count() == 1


class TestLocks:
    """While it waits: what it has by then, in the order of all posters."""

    def posted(self, organization, ann, bob, *, until):
        """Post while somebody holds an account, and look at what `until` returns meanwhile."""
        asked = Asking(partial(post_transfer, organization, ann, bob, 1, key="k"))
        wait_until(lambda: any("kassa_post_transfer" in row[0] for row in waiting()))
        seen = until()
        return asked, seen

    def is_free(self, table, where, *values):
        other = connection.copy()
        other.set_autocommit(False)
        try:
            with other.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '50ms'")
                cursor.execute(f"SELECT FROM {table} WHERE {where} FOR NO KEY UPDATE", list(values))
                return True
        except OperationalError:
            return False
        finally:
            other.rollback()
            other.close()

    def has_key(self, organization):
        """Whether somebody has a key that is not committed."""
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("SET lock_timeout = '50ms'")
                cursor.execute(
                    "INSERT INTO core_idempotency_key (organization_id, key, operation,"
                    " fingerprint, prefix, resource_id) VALUES (%s, 'k', 'x', '', 'je', %s)",
                    [organization, new_id()],
                )
        except OperationalError:
            return True
        finally:
            other.close()
        return False

    def test_are_the_key_first_and_balances_from_the_lowest_up(self, books, patient):
        organization, ann, bob = books
        low, high = sorted([ann, bob])

        with held(low) as let_go:
            asked, seen = self.posted(
                organization, ann, bob,
                until=lambda: (
                    self.has_key(organization), self.is_free("ledger_balance", "id = %s", high)
                ),
            )  # fmt: skip
            let_go()
        asked.ended()

        assert seen == (True, True)
        assert asked.fault is None

    def test_of_the_lowest_are_kept_while_the_highest_is_waited_for(self, books, patient):
        organization, ann, bob = books
        low, high = sorted([ann, bob])

        with held(high) as let_go:
            asked, is_free = self.posted(
                organization, ann, bob, until=lambda: self.is_free("ledger_balance", "id = %s", low)
            )
            let_go()
        asked.ended()

        assert is_free is False
        assert asked.fault is None

    def test_come_before_the_time_at_which_it_is_recorded(self, books, patient):
        """So the versions of an account never run against their times."""
        organization, ann, bob = books
        with changing(ann, "min_available_minor = -1") as commit:
            asked, _ = self.posted(organization, ann, bob, until=lambda: None)
            [[since]] = sql("SELECT clock_timestamp()")
            commit()
            asked.ended()

        assert asked.fault is None
        assert asked.answer.recorded_at > since


@pytest.fixture
def patient():
    """Have it wait for as long as a test may take."""
    [[signature]] = sql("SELECT 'kassa_try_transfer'::regproc::oid::regprocedure::text")
    sql(f"ALTER FUNCTION {signature} SET lock_timeout = '60s'")
    yield
    sql(f"ALTER FUNCTION {signature} SET lock_timeout = '5ms'")


class TestWhatIsLeft:
    """What the engine makes of what a plain transfer met."""

    def test_of_several_that_met_a_serialization_failure_is_one_run(self, books):
        """It has four more, whatever the size of the group."""
        organization, ann, bob = books
        asked = [ticket(ann, bob, key=f"k-{n}") for n in range(5)]
        for one in asked:
            one.is_engines = True
            one.met = OperationalError("could not serialize access")
            one.met.__cause__ = SerializationFailure()

        with capture_logs() as said:
            operations.post_asked(organization_id=organization, asked=asked)

        assert [one["event"] for one in said] == ["transaction_again"]
        assert len({operations.take_result(one).recorded_at for one in asked}) == 1
        assert balance(organization, bob).available == 5

    def test_of_a_group_with_a_replay_and_a_held_account_is_what_was_waited_for(self, books):
        """And not that nothing can be asked any more in a transaction that has failed."""
        organization, ann, bob = books
        cy = open_account(organization, "wallets:cy:EUR")
        post_transfer(organization, ann, bob, 1, key="k")
        group = [ticket(ann, bob), ticket(ann, cy, key="waits")]

        with held(cy):
            fault = _grouping._try(organization, group, wait="20ms")

        assert transactions.sqlstate(fault) == "55P03"


class TestAtOnce:
    def test_under_one_key_are_one_transfer(self, books):
        organization, ann, bob = books
        call = partial(post_transfer, organization, ann, bob, 1, key="k")

        entries = {answer.entry_id for answer in race(*[call] * 8)}

        assert len(entries) == 1
        assert balance(organization, bob).available == 1
        assert breaches() == []

    def test_of_money_for_five_are_five(self, books):
        """Each a statement of its own, as those of several processes are."""
        organization, ann, bob = books
        asked = [ticket(ann, bob, 20_00, key=f"k-{n}") for n in range(8)]

        race(*(partial(_plain.post, [(organization, one)]) for one in asked))

        # The others were left to the engine: too late, or in each other's way.
        assert 1 <= sum(one.is_answered for one in asked) <= 5
        for one in asked:
            operations.post_asked(organization_id=organization, asked=[one])
        assert balance(organization, ann).available == 0
        assert balance(organization, bob).available == 100_00
        assert breaches() == []


class TestLostCommit:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_is_one_effect_and_the_answer_that_stands(self, books, moment):
        organization, ann, bob = books
        with wired() as wire:
            wire.cuts = [moment]
            answer = post_transfer(organization, ann, bob, 1, key="k")

        assert wire.cuts == []
        assert balance(organization, bob).available == 1
        assert IdempotencyKey.objects.get().resource_id == answer.entry_id
        assert (answer.outcome is None) == (moment == "after")
        assert breaches() == []
