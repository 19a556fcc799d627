"""Of one organisation a process posts one long batch at a time; nothing else waits for a turn."""

from functools import partial

import pytest
from django.db import OperationalError

from apps.core import transactions
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey
from apps.ledger import operations
from apps.ledger.errors import InsufficientFunds
from apps.ledger.operations import TransferRequest, _plain_batch, _turns
from tests.ledger.factories import ACTOR, NOW, balance, create_organization, fund, open_account
from tests.ledger.threads import Asking, held, is_waiting, sql
from tests.support import race, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def make_books():
    organization = create_organization()
    ann, bob = (open_account(organization, f"wallets:{name}:EUR") for name in ("ann", "bob"))
    fund(organization, ann, 10_000)
    return organization, ann, bob


@pytest.fixture
def books():
    return make_books()


def batch(books, key, *, size=_turns.LONG, amount=1):
    organization, ann, bob = books
    request = TransferRequest(
        debit_account_id=ann, credit_account_id=bob, amount_minor=amount, currency="EUR"
    )
    return operations.post_transfers(
        organization_id=organization, transfers=[request] * size, mode="atomic",
        idempotency_key=key, actor=ACTOR, now=NOW,
    )  # fmt: skip


def wanted(organization) -> int:
    turn = _turns._turns.get(organization)
    return 0 if turn is None else turn.wanted_by


def waiting_for_rows() -> int:
    [[count]] = sql(
        "SELECT COUNT(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return count


def test_one_writes_and_the_other_waits_without_a_connection_at_work(books):
    organization, ann, bob = books
    with held(ann):
        first = Asking(partial(batch, books, "first"))
        wait_until(is_waiting)
        second = Asking(partial(batch, books, "second"))
        wait_until(lambda: wanted(organization) == 2)

        assert waiting_for_rows() == 1

    for asked in (first, second):
        assert asked.ended().fault is None
        assert len(asked.answer.entry_ids) == _turns.LONG
    assert balance(organization, bob).posted == 2 * _turns.LONG
    assert wanted(organization) == 0
    assert breaches() == []


def test_of_two_over_different_accounts_one_is_at_work(books, monkeypatch):
    organization, *_ = books
    ann, bob = (open_account(organization, f"wallets:{name}:EUR") for name in ("eve", "dan"))
    fund(organization, ann, 10_000)
    at_work, most, run = [], [], _plain_batch.post

    def counted(**asked):
        at_work.append(asked)
        most.append(len(at_work))
        try:
            # Until the other one is at the door, so that it would come in if it could.
            wait_until(lambda: wanted(organization) == 2 or len(most) == 2)
            return run(**asked)
        finally:
            at_work.pop()

    monkeypatch.setattr(_plain_batch, "post", counted)
    race(
        partial(batch, books, "first"),
        partial(batch, (organization, ann, bob), "second"),
    )

    assert most == [1, 1]


def test_who_waits_holds_no_connection_of_the_pool(books, monkeypatch):
    _, ann, _ = books
    released = []
    monkeypatch.setattr(transactions, "release_connection", lambda: released.append(1))
    with held(ann):
        first = Asking(partial(batch, books, "first"))
        wait_until(is_waiting)
        assert released == []
        second = Asking(partial(batch, books, "second"))
        wait_until(lambda: released == [1])
    for asked in (first, second):
        assert asked.ended().fault is None


def test_a_turn_that_does_not_come_is_given_up_and_nothing_was_begun(books, monkeypatch):
    organization, ann, bob = books
    monkeypatch.setattr(_turns, "_WAIT_SECONDS_MAX", 0.01)
    with held(ann):
        first = Asking(partial(batch, books, "first"))
        wait_until(is_waiting)
        second = Asking(partial(batch, books, "second")).ended()

        assert isinstance(second.fault, OperationalError)
        assert not IdempotencyKey.objects.filter(key="second").exists()
    assert first.ended().fault is None
    assert wanted(organization) == 0
    assert len(batch(books, "second").entry_ids) == _turns.LONG
    assert balance(organization, bob).posted == 2 * _turns.LONG


def test_a_refused_one_lets_the_next_one_write(books):
    organization, ann, bob = books
    with held(ann):
        refused = Asking(partial(batch, books, "refused", amount=10_000))
        wait_until(is_waiting)
        allowed = Asking(partial(batch, books, "allowed"))
        wait_until(lambda: wanted(organization) == 2)

    assert isinstance(refused.ended().fault, InsufficientFunds)
    assert allowed.ended().fault is None
    assert balance(organization, bob).posted == _turns.LONG
    assert wanted(organization) == 0


def test_the_same_key_twice_is_one_batch(books):
    organization, ann, bob = books
    with held(ann):
        asked = [Asking(partial(batch, books, "same"))]
        wait_until(is_waiting)
        asked.append(Asking(partial(batch, books, "same")))
        wait_until(lambda: wanted(organization) == 2)

    first, second = (one.ended().answer for one in asked)
    assert first.entry_ids == second.entry_ids
    assert [one.replayed for one in asked] == [False, True]
    assert balance(organization, bob).posted == _turns.LONG


def test_a_short_batch_and_another_organisation_s_wait_for_no_turn(books):
    organization, ann, _ = books
    others = make_books()
    free = (organization, *(open_account(organization, f"wallets:free{n}:EUR") for n in (1, 2)))
    fund(organization, free[1], 100)
    with held(ann):
        long = Asking(partial(batch, books, "long"))
        wait_until(is_waiting)

        batch(free, "short", size=100)
        batch(others, "others")

        assert balance(organization, free[2]).posted == 100
        assert balance(others[0], others[2]).posted == _turns.LONG
    assert long.ended().fault is None


def test_who_is_in_a_transaction_is_refused_before_it_waits(books):
    @transactions.outermost
    def inside():
        batch(books, "inside")

    with pytest.raises(RuntimeError, match="not called inside a transaction"):
        inside()

    assert wanted(books[0]) == 0
    assert balance(books[0], books[2]).posted == 0
