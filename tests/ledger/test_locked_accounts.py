"""What somebody sits on, an account or a key: a wait in vain finds it, and it is known a while."""

import time
from contextlib import contextmanager
from functools import partial

import pytest
from django.db import IntegrityError, connection

from apps.core import transactions
from apps.core.idempotency import RequestInProgress
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey
from apps.ledger import operations
from apps.ledger.models import JournalEntry
from apps.ledger.operations import TransferRequest, _grouping, _suspects
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    open_account,
    post_transfer,
)
from tests.ledger.tampering import corrupt
from tests.ledger.threads import Asking, gather, held, is_waiting, sql
from tests.support import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_suspects")]


@pytest.fixture
def no_suspects(monkeypatch):
    """What tests before suspected is forgotten, and nothing is while a test goes on."""
    _suspects._until.clear()
    monkeypatch.setattr(_suspects, "_SECONDS", 3600.0)
    yield
    _suspects._until.clear()


@pytest.fixture
def books():
    organization = create_organization()
    ann, bob, cy = (open_account(organization, f"wallets:{name}:EUR") for name in "abc")
    fund(organization, ann, 1000)
    return organization, ann, bob, cy


@pytest.fixture
def locked(books):
    organization, *_ = books
    account = open_account(organization, "wallets:locked:EUR")
    fund(organization, account, 10)
    return account


@contextmanager
def held_key(organization, key: str):
    """Another connection has claimed the key and is not at its end, as a process that hangs."""
    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute(
            "INSERT INTO core_idempotency_key (organization_id, key, operation, fingerprint,"
            " prefix, resource_id, created_at) VALUES (%s, %s, 'x', '', '', %s, now())",
            [organization, key, new_id()],
        )
    try:
        yield
    finally:
        other.rollback()
        other.close()


class TestLockedAccount:
    def test_that_is_known_keeps_nobody_waiting_who_does_not_name_it(self, books, locked):
        """Not even where its own transfers go: the account on their other side is free."""
        organization, ann, bob, _ = books
        late = partial(post_transfer, organization, locked, bob, 1)
        other = partial(post_transfer, organization, ann, bob, 1)

        with held(locked):
            assert Asking(partial(late, key="found"), lock_timeout="100ms").ended().fault
            # All of them on connections that would wait for a minute.
            leader, *asked = gather(
                organization, ann, partial(other, key="first"),
                partial(late, key="late-1"), partial(other, key="other-1"),
                partial(late, key="late-2"), partial(other, key="other-2"),
                lock_timeout="60s",
            )  # fmt: skip

        assert [transactions.sqlstate(one.fault) for one in asked[::2]] == ["55P03"] * 2
        # The first one's wait was told to the second, which did not wait for itself.
        assert asked[0].fault is asked[2].fault
        assert [one.fault for one in (leader, *asked[1::2])] == [None] * 3
        # In one batch, of which nobody waited.
        assert asked[1].answer.recorded_at == asked[3].answer.recorded_at
        assert not IdempotencyKey.objects.filter(key__startswith="late").exists()
        assert balance(organization, bob).available == 3
        assert breaches() == []

    def test_that_is_free_again_is_posted_to_and_known_no_more(self, books, locked):
        organization, _, bob, _ = books
        late = partial(post_transfer, organization, locked, bob, 1)

        with held(locked):
            assert Asking(partial(late, key="late"), lock_timeout="100ms").ended().fault
            assert _suspects.find(organization) == {locked}

        assert late(key="late").outcome.status == "posted"
        assert _suspects.find(organization) == set()
        assert breaches() == []

    def test_is_found_by_a_group_whose_members_wait_briefly_then(self, books, locked, monkeypatch):
        """The group waits as long as its connection does; who was in it, as `_BRIEFLY` says."""
        organization, ann, bob, cy = books
        late = partial(post_transfer, organization, locked, bob, 1)
        other = partial(post_transfer, organization, ann, cy, 1)
        # So that it shows: longer than the group.
        monkeypatch.setattr(_grouping, "_BRIEFLY", "60s")

        with held(locked) as let_go:
            with held(ann):
                asked = [Asking(partial(other, key="first"))]
                wait_until(is_waiting)
                for call in (partial(late, key="late"), partial(other, key="other")):
                    asked.append(Asking(call, lock_timeout="300ms"))
                    waiting = len(asked) - 1
                    wait_until(lambda: len(_grouping._queues[organization]) == waiting)  # noqa: B023
            wait_until(lambda: is_waiting_since("500 ms"))
            let_go()
            answered = [one.ended() for one in asked]

        assert [one.fault for one in answered] == [None] * 3
        assert balance(organization, bob).available == 1
        assert breaches() == []

    def test_is_waited_for_by_a_group_a_third_as_long_as_a_request_may(self, books, monkeypatch):
        """It may wait so twice, for another process first, and has to find out what is locked."""
        organization, ann, bob, _ = books
        run, waits = _grouping._engine.run, []

        def look_and_run(**asked):
            waits.append(sql("SHOW lock_timeout"))
            return run(**asked)

        monkeypatch.setattr(_grouping._engine, "run", look_and_run)
        for timeout in ("2s", "1ms", "0"):
            # Under a reference, so that it is the engine's.
            other = partial(
                post_transfer, organization, ann, bob, 1, key=timeout, reference=timeout
            )
            assert Asking(other, lock_timeout=timeout).ended().fault is None

        # A third of one is not none at all.
        assert waits == [[("667ms",)], [("1ms",)], [("0",)]]
        assert balance(organization, bob).available == 3

    def test_that_is_let_go_in_time_is_posted_to_once_the_others_are(
        self, books, locked, monkeypatch
    ):
        """A long batch may hold it: who names it waits once more, and nobody else does then."""
        organization, ann, bob, _ = books
        monkeypatch.setattr(_grouping, "_PATIENCE_SECONDS", 3600.0)
        late = partial(post_transfer, organization, locked, bob, 1)
        other = partial(post_transfer, organization, ann, bob, 1)

        with held(locked) as let_go:
            with held(ann):
                asked = [Asking(partial(other, key="first"))]
                wait_until(is_waiting)
                for number, call in enumerate(
                    (partial(late, key="late-1"), partial(other, key="other"),
                     partial(late, key="late-2")), 1
                ):  # fmt: skip
                    asked.append(Asking(call, lock_timeout="300ms"))
                    wait_until(lambda: len(_grouping._queues[organization]) == number)  # noqa: B023
            wait_until(lambda: balance(organization, bob).available == 2)
            wait_until(lambda: locked in _suspects.find(organization))
            let_go()
            answered = [one.ended() for one in asked]

        assert [one.fault for one in answered] == [None] * 4
        # Together.
        assert answered[1].answer.recorded_at == answered[3].answer.recorded_at
        assert _suspects.find(organization) == set()
        assert balance(organization, bob).available == 4
        assert breaches() == []

    def test_that_is_found_when_time_is_over_is_waited_for_at_a_glance(self, books, monkeypatch):
        """Each of several is tried, and the first of them looked at: so the next group knows it."""
        organization, ann, bob, cy = books
        monkeypatch.setattr(_grouping, "_PATIENCE_SECONDS", -1.0)
        post, waits = _grouping._post, []

        def note_and_post(**asked):
            waits.append((len(asked["group"]), asked["wait"]))
            return post(**asked)

        monkeypatch.setattr(_grouping, "_post", note_and_post)
        asked = [
            operations.ask_transfer(
                transfer=TransferRequest(
                    debit_account_id=ann, credit_account_id=credit, amount_minor=1, currency="EUR"
                ), idempotency_key=f"late-{credit}",
                actor=ACTOR, now=NOW,
            )
            for credit in (bob, cy)
        ]  # fmt: skip

        with held(bob), held(cy):
            operations.post_asked(organization_id=organization, asked=asked)

        assert [transactions.sqlstate(one.fault) for one in asked] == ["55P03"] * 2
        assert waits == [(2, _grouping._BRIEFLY), (1, _grouping._GLANCE), (1, _grouping._GLANCE)]
        assert _suspects.find(organization) == {bob}
        assert breaches() == []

    @pytest.fixture
    def late(self, books, locked):
        """Three who waited in vain, the second of whom names the account `locked`."""
        organization, ann, bob, _ = books
        asked = [
            operations.ask_transfer(
                transfer=TransferRequest(
                    debit_account_id=debit, credit_account_id=bob, amount_minor=1, currency="EUR"
                ), idempotency_key=f"late-{number}", actor=ACTOR, now=NOW,
            )
            for number, debit in enumerate([ann, locked, ann])
        ]  # fmt: skip
        with held(ann), held(locked):
            for one in asked:
                _grouping._try(organization, [one], wait=_grouping._GLANCE)
        assert [transactions.sqlstate(one.fault) for one in asked] == ["55P03"] * 3
        return asked

    def test_whose_key_is_held_is_the_only_one_of_those_that_wait_once_more_to_be_told(
        self, books, late
    ):
        organization, *_ = books

        with held_key(organization, "late-1"):
            _grouping._answer_late(organization, late, until=time.monotonic() + 0.3)

        assert [type(one.fault) for one in late] == [type(None), RequestInProgress, type(None)]
        assert _suspects.find(organization) == {"late-1"}
        assert (
            JournalEntry.objects.filter(id__in=[one.asked.resource_id for one in late]).count() == 2
        )
        assert breaches() == []

    def test_that_postgres_refuses_fails_no_other_that_waits_once_more(self, books, late, locked):
        organization, *_ = books
        # Its next posting will have the version of the one before: a fault, and no refusal.
        corrupt("UPDATE ledger_balance SET version = version - 1 WHERE id = %s", locked)

        _grouping._answer_late(organization, late, until=time.monotonic() + 5)

        assert [type(one.fault) for one in late] == [type(None), IntegrityError, type(None)]
        corrupt("UPDATE ledger_balance SET version = version + 1 WHERE id = %s", locked)
        assert breaches() == []

    def test_of_another_organization_is_suspected_by_nobody_else(self, books, locked):
        organization, _, bob, _ = books
        stranger = create_organization("Stranger")
        mine = open_account(stranger, "wallets:mine:EUR")
        fund(stranger, mine, 10)

        with held(mine), held(bob):
            asked = Asking(
                partial(post_transfer, stranger, mine, bob, 1, key="k"), lock_timeout="100ms"
            ).ended()

        assert transactions.sqlstate(asked.fault) == "55P03"
        assert _suspects.find(stranger) == {mine}
        assert _suspects.find(organization) == set()

    def test_is_forgotten_after_a_while_and_leaves_nothing(self, books, locked, monkeypatch):
        organization, *_ = books
        other = create_organization("Other")
        monkeypatch.setattr(_suspects, "_SECONDS", 0.0)

        _suspects.note(organization, [locked])

        assert _suspects.find(organization) == set()
        _suspects.note(organization, [locked])
        _suspects.note(other, [locked])
        assert list(_suspects._until) == [other]

    def test_is_one_on_which_a_lock_stays_and_no_other(self, books, locked):
        organization, ann, bob, _ = books
        stranger = create_organization("Stranger")

        with held(locked), held(bob):
            assert _suspects.look(organization, [ann, bob, locked, new_id()]) == {bob, locked}
            # Who has no such account waits for none.
            assert _suspects.look(stranger, [locked]) == set()
        # Looked at not long ago.
        assert _suspects.look(organization, [ann, locked]) == {locked}
        _suspects._until[organization][locked] -= _suspects._SECONDS * 0.6
        assert _suspects.look(organization, [ann, locked]) == set()
        assert _suspects.find(organization) == {bob}


class TestHeldKey:
    def test_that_is_known_keeps_nobody_else_waiting(self, books):
        """Its first request hangs, and its client asks again and again under the same key."""
        organization, ann, bob, _ = books
        again = partial(post_transfer, organization, ann, bob, 1, key="held")
        other = partial(post_transfer, organization, ann, bob, 1)

        with held_key(organization, "held"):
            found = Asking(again, lock_timeout="100ms").ended()
            assert _suspects.find(organization) == {"held"}
            leader, *asked = gather(
                organization, ann, partial(other, key="first"),
                again, partial(other, key="other-1"), partial(other, key="other-2"),
                lock_timeout="60s",
            )  # fmt: skip

        assert [type(one.fault) for one in (found, asked[0])] == [RequestInProgress] * 2
        assert [one.fault for one in (leader, *asked[1:])] == [None] * 3
        assert asked[1].answer.recorded_at == asked[2].answer.recorded_at
        assert again().outcome.status == "posted"
        assert _suspects.find(organization) == set()
        assert balance(organization, bob).available == 4
        assert breaches() == []


def is_waiting_since(interval: str) -> bool:
    """Whether anybody on this database has waited for one lock for so long."""
    [[found]] = sql(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp()"
        " - %s::interval AND pid IN (SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database()))",
        interval,
    )
    return bool(found)
