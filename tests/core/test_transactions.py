"""One durable transaction, run again as a whole where Postgres undid it, and only there."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from apps.core import transactions
from apps.core.errors import InvariantBroken, RuleViolation
from apps.core.ids import new_id
from apps.core.models import FeedHead
from tests.core.wire import wired
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


def fault(kind: type[psycopg.Error]) -> OperationalError:
    raised = OperationalError("made up")
    raised.__cause__ = kind("made up")
    return raised


def add_head(organization_id=None) -> FeedHead:
    return FeedHead.objects.create(organization_id=organization_id or new_id())


class TestOutermost:
    def test_commits_and_returns(self):
        made = transactions.outermost(add_head)()

        assert FeedHead.objects.get() == made
        assert not connection.in_atomic_block

    def test_rolls_everything_back_when_refused_and_does_not_ask_again(self):
        runs = []

        @transactions.outermost
        def refused():
            runs.append(1)
            add_head()
            raise RuleViolation("No.")

        with pytest.raises(RuleViolation):
            refused()

        assert not FeedHead.objects.exists()
        assert runs == [1]

    def test_does_not_start_inside_another(self):
        @transactions.outermost
        def outer():
            transactions.outermost(add_head)()

        with pytest.raises(RuntimeError, match="durable"):
            outer()

        assert not FeedHead.objects.exists()

    def test_makes_no_savepoint(self):
        @transactions.outermost
        def outer():
            transactions.required(add_head)()

        with CaptureQueriesContext(connection) as queries:
            outer()

        assert not [query for query in queries if "SAVEPOINT" in query["sql"]]

    @pytest.mark.parametrize(
        "kind", [psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected]
    )
    def test_runs_again_as_a_whole_up_to_five_times(self, kind):
        runs = []

        @transactions.outermost
        def unlucky():
            add_head()
            runs.append(1)
            if len(runs) < 5:
                raise fault(kind)
            return "done"

        assert unlucky() == "done"
        assert FeedHead.objects.count() == 1

    def test_gives_up_after_the_fifth_run(self):
        runs = []

        @transactions.outermost
        def doomed():
            runs.append(1)
            raise fault(psycopg.errors.DeadlockDetected)

        with pytest.raises(OperationalError):
            doomed()

        assert len(runs) == 5

    @pytest.mark.parametrize(
        "kind",
        [
            psycopg.errors.LockNotAvailable,
            psycopg.errors.QueryCanceled,
            psycopg.errors.TooManyConnections,
            psycopg.errors.AdminShutdown,
            psycopg.OperationalError,
        ],
    )
    def test_runs_once_for_any_other_fault(self, kind):
        runs = []

        @transactions.outermost
        def away():
            runs.append(1)
            raise fault(kind)

        with pytest.raises(OperationalError):
            away()

        assert len(runs) == 1

    def test_runs_once_for_a_broken_constraint_nobody_named(self):
        taken, runs = transactions.outermost(add_head)(), []

        @transactions.outermost
        def again():
            runs.append(1)
            add_head(taken.organization_id)

        with pytest.raises(IntegrityError):
            again()

        assert len(runs) == 1

    def test_runs_again_on_a_unique_constraint_that_was_named(self, monkeypatch):
        monkeypatch.setattr(transactions, "_run_again_on", {"core_feed_head_pkey"})
        taken, runs = transactions.outermost(add_head)(), []

        @transactions.outermost
        def find_or_add():
            runs.append(1)
            return add_head(taken.organization_id if len(runs) == 1 else None)

        find_or_add()

        assert len(runs) == 2

    def test_resolves_a_real_deadlock(self):
        heads = [transactions.outermost(add_head)().organization_id for _ in range(2)]
        both = meeting_point()

        @transactions.outermost
        def touch(first, second):
            for id_ in (first, second):
                FeedHead.objects.filter(organization_id=id_).update(last_position=1)
                both()
            return True

        assert race(partial(touch, *heads), partial(touch, *reversed(heads))) == [True, True]


def add_elsewhere() -> None:
    """Commit a row over another connection."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: (transactions.outermost(add_head)(), connection.close())).result()


def meeting_point():
    """Return a step at which the first two callers meet; later ones pass."""
    barrier, waited = threading.Barrier(2, timeout=10), threading.local()

    def meet():
        if not getattr(waited, "once", False):
            waited.once = True
            barrier.wait()

    return meet


class TestRequired:
    def test_refuses_to_run_alone(self):
        with pytest.raises(InvariantBroken, match="outermost"):
            transactions.required(add_head)()

    def test_refuses_a_transaction_that_is_none_of_ours(self):
        with transactions.snapshot(), pytest.raises(InvariantBroken):
            transactions.required(add_head)()


class TestLongSnapshot:
    LIMITS = ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout")

    def limits(self):
        with connection.cursor() as cursor:
            for name in self.LIMITS:
                cursor.execute(f"SHOW {name}")
                yield cursor.fetchone()[0]

    def test_takes_as_long_as_it_needs_and_nothing_else_does(self):
        with connection.cursor() as cursor:
            for name in self.LIMITS:
                cursor.execute(f"SET {name} = '7s'")

        with transactions.long_snapshot():
            within = list(self.limits())
        after = list(self.limits())
        connection.close()

        assert within == ["0"] * 3
        assert after == ["7s"] * 3


class TestSnapshot:
    def test_sees_one_instant_and_cannot_write(self):
        with transactions.snapshot():
            assert FeedHead.objects.count() == 0
            add_elsewhere()
            assert FeedHead.objects.count() == 0
            with pytest.raises(DatabaseError, match="read-only"):
                add_head()

    def test_within_another_is_of_the_same_instant_and_ends_with_it(self):
        with CaptureQueriesContext(connection) as captured, transactions.snapshot():
            assert FeedHead.objects.count() == 0
            add_elsewhere()
            with transactions.snapshot():
                assert FeedHead.objects.count() == 0
            assert FeedHead.objects.count() == 0

        assert [query["sql"].split()[0] for query in captured] == [
            "BEGIN", "SET", "SELECT", "SELECT", "SELECT", "COMMIT",
        ]  # fmt: skip
        with transactions.snapshot():
            assert FeedHead.objects.count() == 1

    def test_does_not_begin_in_another_transaction(self):
        @transactions.outermost
        def read():
            with transactions.snapshot():
                pass

        with pytest.raises(RuntimeError, match="durable"):
            read()

    def test_is_no_place_for_an_outermost_operation(self):
        with transactions.snapshot(), pytest.raises(RuntimeError, match="durable"):
            transactions.outermost(add_head)()

        assert not FeedHead.objects.exists()


class TestOnRefusal:
    def test_is_written_after_the_rollback(self):
        @transactions.outermost
        def refused():
            kept = new_id()
            transactions.on_refusal(lambda _refusal: add_head(kept) and False)
            add_head(kept)
            raise RuleViolation("No.")

        with pytest.raises(RuleViolation):
            refused()

        assert FeedHead.objects.count() == 1

    def test_is_not_written_when_nothing_was_refused(self):
        @transactions.outermost
        def accepted():
            transactions.on_refusal(lambda _refusal: add_head() and False)

        accepted()

        assert not FeedHead.objects.exists()

    def test_is_not_written_for_a_fault(self):
        @transactions.outermost
        def broken():
            transactions.on_refusal(lambda _refusal: add_head() and False)
            raise InvariantBroken("Ours.")

        with pytest.raises(InvariantBroken):
            broken()

        assert not FeedHead.objects.exists()

    def test_forgets_what_an_earlier_run_wanted_kept(self):
        runs = []

        @transactions.outermost
        def refused_late():
            runs.append(1)
            transactions.on_refusal(lambda _refusal: add_head() and False)
            if len(runs) < 3:
                raise fault(psycopg.errors.SerializationFailure)
            raise RuleViolation("No.")

        with pytest.raises(RuleViolation):
            refused_late()

        assert FeedHead.objects.count() == 1

    def test_runs_again_itself_on_a_deadlock(self):
        tries = []

        def write(_refusal):
            tries.append(1)
            add_head()
            if len(tries) == 1:
                raise fault(psycopg.errors.DeadlockDetected)

        @transactions.outermost
        def refused():
            transactions.on_refusal(write)
            raise RuleViolation("No.")

        with pytest.raises(RuleViolation):
            refused()

        assert (len(tries), FeedHead.objects.count()) == (2, 1)

    def test_writes_them_all_though_one_asks_for_another_run(self):
        runs = []

        @transactions.outermost
        def refused():
            runs.append(1)
            if len(runs) == 1:
                transactions.on_refusal(lambda _refusal: True)
                transactions.on_refusal(lambda _refusal: add_head() and False)
            raise RuleViolation("No.")

        with pytest.raises(RuleViolation):
            refused()

        assert (len(runs), FeedHead.objects.count()) == (2, 1)

    def test_never_asks_for_another_run_for_ever(self):
        runs = []

        @transactions.outermost
        def refused():
            runs.append(1)
            transactions.on_refusal(lambda _refusal: True)
            raise RuleViolation("No.")

        with pytest.raises(RuleViolation):
            refused()

        assert len(runs) == 5


class TestGivingUp:
    def test_a_remedy_that_never_helps_is_tried_four_times(self):
        remedies = []

        @transactions.outermost
        def hopeless():
            add_head()
            raise transactions.RunAgainAfter(lambda: remedies.append(1))

        with pytest.raises(transactions.RunAgainAfter) as raised:
            hopeless()

        assert (len(remedies), FeedHead.objects.count()) == (4, 0)
        assert transactions.has_given_up(raised.value)

    @pytest.mark.parametrize(
        "kind", [psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected]
    )
    def test_is_known_by_what_was_in_the_way(self, kind):
        assert transactions.has_given_up(fault(kind))
        assert not transactions.has_given_up(fault(psycopg.errors.DiskFull))
        assert not transactions.has_given_up(ValueError())

    def test_is_also_a_race_that_was_lost_each_time(self, monkeypatch):
        monkeypatch.setattr(transactions, "_run_again_on", {"core_feed_head_pkey"})
        taken, runs = transactions.outermost(add_head)(), []

        @transactions.outermost
        def unlucky():
            runs.append(1)
            add_head(taken.organization_id)

        with pytest.raises(IntegrityError) as raised:
            unlucky()

        assert len(runs) == 5
        assert transactions.has_given_up(raised.value)


class TestOnCommit:
    def test_is_called_once_though_the_operation_ran_twice(self):
        runs, called = [], []

        @transactions.outermost
        def unlucky():
            runs.append(1)
            transactions.on_commit(lambda: called.append(len(runs)))
            if len(runs) == 1:
                raise fault(psycopg.errors.SerializationFailure)

        unlucky()

        assert called == [2]

    def test_is_no_more_inside_the_operation(self):
        met = []

        def late():
            with pytest.raises(InvariantBroken):
                transactions.required(add_head)()
            met.append(1)

        transactions.outermost(lambda: transactions.on_commit(late))()

        assert (met, FeedHead.objects.count()) == ([1], 0)

    def test_cannot_undo_or_fail_the_operation(self):
        @transactions.outermost
        def operation():
            transactions.on_commit(lambda: 1 / 0)
            return add_head()

        assert operation() == FeedHead.objects.get()


class TestLostCommit:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_is_a_fault_where_nothing_can_resolve_it(self, moment):
        with wired() as wire:
            transactions.outermost(add_head)()
            wire.cuts.append(moment)

            with pytest.raises(OperationalError):
                transactions.outermost(add_head)()

            # The next operation has a connection again.
            transactions.outermost(add_head)()

        assert FeedHead.objects.count() == (3 if moment == "after" else 2)
