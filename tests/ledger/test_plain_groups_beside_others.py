"""Groups of plain transfers beside others: what they lock and wait for, and what is lost."""

import contextlib
from contextlib import contextmanager
from functools import partial

import pytest
from django.db import OperationalError, connection
from psycopg.errors import SerializationFailure
from structlog.testing import capture_logs

from apps.core import statements
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey, OutboxEvent
from apps.ledger import operations
from apps.ledger.models import JournalEntry
from apps.ledger.operations import _plain, _suspects
from tests.core.wire import wired
from tests.ledger.factories import (
    balance,
    fund,
    post_transfer,
)
from tests.ledger.plain import ask, make_three, outcome_of, ticket, waiting
from tests.ledger.rows import fingerprints
from tests.ledger.test_plain_beside_others import changing
from tests.ledger.threads import Asking, held, sql
from tests.support import race, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    return make_three()


KEY = """
    INSERT INTO core_idempotency_key
        (organization_id, key, operation, fingerprint, prefix, resource_id, created_at)
    VALUES (%s, %s, 'x', '', '', %s, now())
"""


class TestWaiting:
    """For a key or an account that somebody holds."""

    def test_is_not_for_long_and_nothing_is_kept(self, books):
        organization, ann, bob, cy = books
        asked = [ticket(ann, bob, key="1"), ticket(ann, cy, key="2")]
        before = fingerprints(locks=False)

        with held(cy):
            _plain.post_together(organization, asked)

        assert not any(one.is_answered for one in asked)
        assert fingerprints(locks=False) == before
        assert ask(organization, asked)[1].outcome.status == "posted"

    def test_of_the_first_keeps_no_lock_on_another(self, books):
        """Balances from the lowest up, so of two groups one waits for the other, not both."""
        organization, *wallets = books
        low, middle, high = sorted(wallets)
        for wallet in wallets:
            fund(organization, wallet, 1)
        asked = [ticket(high, low, key="1"), ticket(middle, high, key="2")]
        with patience(), held(low) as let_go:
            asking = Asking(partial(ask, organization, asked))
            wait_until(lambda: any("kassa_post_transfers" in row[0] for row in waiting()))
            free = sql(
                "SELECT id FROM ledger_balance WHERE id = %s FOR NO KEY UPDATE SKIP LOCKED", high
            )
            let_go()
            asking.ended()

        assert free == [(high,)]

    def test_of_a_key_has_none_that_comes_after_it(self, books):
        """Keys from the lowest up, so of two groups with keys in common one waits, not both."""
        organization, ann, bob, _ = books
        asked = [ticket(ann, bob, key=key) for key in ("c", "a", "B", "Z")]
        other = connection.copy()
        other.set_autocommit(False)
        with contextlib.closing(other), patience(), other.cursor() as cursor:
            cursor.execute(KEY, [organization, "a", new_id()])
            asking = Asking(partial(_plain.post_together, organization, asked))
            wait_until(lambda: any("kassa_post_transfers" in row[0] for row in waiting()))
            cursor.execute("SET LOCAL lock_timeout = '500ms'")
            # Nobody has it yet.
            cursor.execute(KEY, [organization, "c", new_id()])
            other.rollback()
            asking.ended()

        assert [one.is_answered for one in asked] == [True] * 4

    def test_comes_before_the_time_at_which_they_are_recorded(self, books):
        organization, ann, bob, _ = books
        with patience(), changing(ann, "min_available_minor = -1") as commit:
            asking = Asking(
                partial(ask, organization, [ticket(ann, bob, key=f"k-{n}") for n in range(2)])
            )
            wait_until(lambda: any("kassa_post_transfers" in row[0] for row in waiting()))
            [[since]] = sql("SELECT clock_timestamp()")
            commit()
            asking.ended()

        assert asking.fault is None
        assert {one.recorded_at > since for one in asking.answer} == {True}

    def test_while_the_money_goes_leaves_all_of_it_to_the_engine(self, books):
        """It was covered as it was looked at, and is not under the locks."""
        organization, ann, bob, cy = books
        fund(organization, cy, 1)
        asked = [ticket(ann, bob, key="1"), ticket(cy, bob, key="2")]
        with patience(), changing(ann, "pending_debits = 10000") as commit:
            asking = Asking(
                partial(operations.post_asked, organization_id=organization, asked=asked)
            )
            wait_until(lambda: any("kassa_post_transfers" in row[0] for row in waiting()))
            with capture_logs() as said:
                commit()
                asking.ended()

        assert outcome_of(asked[0])[0] == "insufficient_funds"
        assert operations.take_result(asked[1]).outcome.status == "posted"
        assert [one for one in said if one["event"].startswith("plain")] == []
        # Each key once, and the event of one.
        assert IdempotencyKey.objects.count() == 2
        assert OutboxEvent.objects.filter(data__kind="transfer").count() == 3


@contextmanager
def patience():
    """Have a group wait for as long as a test may take."""
    [[signature, settings]] = sql(
        "SELECT oid::regprocedure::text, proconfig FROM pg_proc"
        " WHERE proname = 'kassa_post_transfers'"
    )
    [before] = [one for one in settings if one.startswith("lock_timeout=")]
    name, value = before.split("=")
    sql(f"ALTER FUNCTION {signature} SET lock_timeout = '60s'")
    try:
        yield
    finally:
        sql(f"ALTER FUNCTION {signature} SET {name} = '{value}'")


class TestAtOnce:
    def test_groups_there_and_back_are_all_posted(self, books):
        """As processes have them: over the same accounts, each in an order of its own."""
        organization, *wallets = books
        for wallet in wallets:
            fund(organization, wallet, 1_000)
        groups = [
            [
                ticket(wallets[(n + g) % 3], wallets[(n + g + 1 + g % 2) % 3], 1, key=f"{g}-{n}")
                for n in range(9)
            ]
            for g in range(8)
        ]

        race(*(partial(_plain.post_together, organization, group) for group in groups))

        # Those that waited for too long were left to the engine.
        assert any(one.is_answered for group in groups for one in group)
        for group in groups:
            assert len({one.is_answered for one in group}) == 1
            assert all(one.outcome.status == "posted" for one in ask(organization, group))
        assert sum(balance(organization, one).available for one in wallets) == 100_00 + 3_000
        assert JournalEntry.objects.filter(kind="transfer").count() == 4 + 72
        assert breaches() == []

    def test_groups_of_money_for_five_are_five(self, books):
        organization, ann, bob, _ = books
        groups = [[ticket(ann, bob, 20_00, key=f"{g}-{n}") for n in range(2)] for g in range(5)]

        race(*(partial(_plain.post_together, organization, group) for group in groups))
        for group in groups:
            operations.post_asked(organization_id=organization, asked=group)

        refused = [one for group in groups for one in group if outcome_of(one)[0] is not None
                   and outcome_of(one)[0] == "insufficient_funds"]  # fmt: skip
        assert len(refused) == 5
        assert balance(organization, ann).available == 0
        assert breaches() == []

    @pytest.mark.parametrize("odd", ["replay", "refusal"])
    def test_one_that_is_known_before_is_no_fault_in_postgres(self, books, monkeypatch, odd):
        """It is seen before anything is written; its group has lost a look."""
        organization, ann, bob, _ = books
        post_transfer(organization, ann, bob, 1, key="replay")
        asked = [ticket(ann, bob, key=f"k-{n}") for n in range(2)]
        asked.append(ticket(ann, bob, {"replay": 1, "refusal": 200_00}[odd], key=odd))
        alone, seen = statements.alone, []
        monkeypatch.setattr(
            statements, "alone", lambda *call, **more: seen.append(alone(*call, **more)) or seen[-1]
        )

        _plain.post_together(organization, asked)

        [answer] = seen
        assert answer.rows() == []
        assert [one.is_engines for one in asked] == [True] * 3
        operations.post_asked(organization_id=organization, asked=asked)
        assert [outcome_of(one) is not None for one in asked] == [True, True, odd == "refusal"]

    def test_a_key_that_somebody_takes_meanwhile_leaves_all_to_the_engine(self, books):
        organization, ann, bob, _ = books
        asked = [ticket(ann, bob, key=f"k-{n}") for n in range(3)]
        other = connection.copy()
        other.set_autocommit(False)
        with contextlib.closing(other), patience(), other.cursor() as cursor:
            cursor.execute(KEY, [organization, "k-1", new_id()])
            asking = Asking(
                partial(operations.post_asked, organization_id=organization, asked=asked)
            )
            wait_until(lambda: any("kassa_post_transfers" in row[0] for row in waiting()))
            with capture_logs() as said:
                other.commit()
                asking.ended()

        assert [outcome_of(one)[0] for one in asked][1] == "idempotency_key_reused"
        assert [one for one in said if one["event"].startswith("plain")] == []
        assert balance(organization, bob).available == 2

    def test_the_same_group_twice_is_posted_once(self, books):
        organization, ann, bob, _ = books
        twice = [[ticket(ann, bob, key=f"k-{n}") for n in range(4)] for _ in range(2)]

        race(*(partial(_plain.post_together, organization, group) for group in twice))
        made = [ask(organization, group) for group in twice]

        assert len({one.entry_id for each in made for one in each}) == 4
        assert balance(organization, bob).available == 4
        assert breaches() == []


class TestFaults:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_lost_answer_is_one_effect_for_each(self, books, moment):
        organization, ann, bob, _ = books
        asked = [ticket(ann, bob, key=f"k-{n}") for n in range(5)]
        with wired() as wire:
            wire.cuts = [moment]
            made = ask(organization, asked)

        assert wire.cuts == []
        assert len({one.entry_id for one in made}) == 5
        assert balance(organization, bob).available == 5
        assert {one.outcome is None for one in made} == {moment == "after"}
        assert breaches() == []

    def test_a_serialization_failure_is_the_first_run_of_all(self, books, monkeypatch):
        organization, ann, bob, _ = books
        asked = [ticket(ann, bob, key=f"k-{n}") for n in range(3)]
        fault = OperationalError("could not serialize access")
        fault.__cause__ = SerializationFailure()

        class Failed:
            def rows(self):
                raise fault

        monkeypatch.setattr(statements, "alone", lambda *_: Failed())
        _plain.post_together(organization, asked)
        assert [one.met for one in asked] == [fault] * 3
        monkeypatch.undo()
        with capture_logs() as said:
            made = ask(organization, asked)

        assert [one["event"] for one in said] == ["transaction_again"]
        assert len({one.recorded_at for one in made}) == 1
        assert balance(organization, bob).available == 3

    def test_what_postgres_refuses_is_logged_and_met_by_the_one_that_is_to_blame(self, books):
        organization, ann, bob, _ = books
        asked = [ticket(ann, bob, n, key=f"k-{n}") for n in (1, 2, 3)]
        sql("ALTER TABLE ledger_posting ADD CONSTRAINT odd CHECK (amount_minor <> 2) NOT VALID")
        try:
            with capture_logs() as logs:
                operations.post_asked(organization_id=organization, asked=asked)
        finally:
            sql("ALTER TABLE ledger_posting DROP CONSTRAINT odd")

        assert [one.fault is None for one in asked] == [True, False, True]
        assert [one["fault"] for one in logs if one["event"] == "plain_transfer_failed"] == [
            "23514"
        ]
        assert balance(organization, bob).available == 4
        assert breaches() == []

    def test_one_that_names_what_somebody_sits_on_is_not_of_the_group(self, books, monkeypatch):
        """Who waits for it and for how long is the engine's to say."""
        organization, ann, bob, cy = books
        asked = [ticket(ann, to, key=f"k-{n}") for n, to in enumerate((bob, cy, bob))]
        _suspects.note(organization, [cy])
        tried = []

        def together(owner, group):
            tried.append([one.asked.key for one in group])
            post_together(owner, group)

        post_together = _plain.post_together
        monkeypatch.setattr(_plain, "post_together", together)
        monkeypatch.setattr(_plain, "post", tried.append)
        try:
            ask(organization, asked)
        finally:
            _suspects._until.clear()

        assert tried == [["k-0", "k-2"]]
        assert balance(organization, bob).available == 2
        assert balance(organization, cy).available == 1
