"""Which rows an act locks, in which order, how strongly: seen while it waits for one of them."""

from functools import partial

import pytest

from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.ledger import operations
from apps.ledger.operations import EntryRequest, HoldRequest, TransferRequest
from apps.ledger.rules import CaptureHold, Leg, PlaceHold, VoidHold
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    move,
    open_account,
    post,
)
from tests.ledger.threads import Asking, held, is_waiting, sql
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

BALANCES = "SELECT id FROM ledger_balance WHERE id = ANY(%s) FOR {} SKIP LOCKED"
HOLDS = "SELECT id FROM ledger_hold WHERE id = ANY(%s) FOR NO KEY UPDATE SKIP LOCKED"


@pytest.fixture
def books():
    """Three accounts with money, in the order of their ids, which is not that of their rows."""
    organization = create_organization()
    accounts = sorted(open_account(organization, f"wallets:w{n}:EUR") for n in range(3))
    for account in reversed(accounts):
        fund(organization, account, 100)
    return organization, *accounts


def terms(debit, credit) -> dict:
    return {
        "debit_account_id": debit, "credit_account_id": credit, "amount_minor": 1,
        "currency": "EUR",
    }  # fmt: skip


def asked(organization) -> dict:
    return {"organization_id": organization, "idempotency_key": "k", "actor": ACTOR, "now": NOW}


# Each names the accounts in the order in which they are not locked.


def transfer(organization, low, middle, _):
    # Under a reference: what is plain would be tried for five milliseconds first, and let go.
    named = TransferRequest(**terms(middle, low), reference="order-1")
    operations.post_transfer(**asked(organization), transfer=named)


def batch(organization, low, middle, high):
    transfers = [TransferRequest(**terms(*pair)) for pair in ((high, middle), (middle, low))]
    operations.post_transfers(**asked(organization), transfers=transfers, mode="atomic")


def entry(organization, low, middle, high):
    legs = (Leg(high, 2, "EUR"), Leg(middle, -1, "EUR"), Leg(low, -1, "EUR"))
    operations.post_entry(**asked(organization), entry=EntryRequest(legs=legs))


def hold(organization, low, middle, _):
    operations.place_hold(**asked(organization), hold=HoldRequest(**terms(middle, low)))


def larger_act(organization, low, middle, high):
    post(organization, move(high, low, 1), move(middle, high, 1))


class TestBalances:
    @pytest.mark.parametrize("act", [transfer, batch, entry, hold, larger_act])
    def test_are_locked_from_the_lowest_id_on_and_leave_keys_to_be_shared(self, books, act):
        """Whoever waits for one of them has those before it, and none behind it."""
        organization, *accounts = books
        low, middle, high = accounts
        with held(middle):
            asking = Asking(partial(act, organization, *accounts))
            wait_until(is_waiting)

            free = sql(BALANCES.format("NO KEY UPDATE"), accounts)
            shared = sql(BALANCES.format("KEY SHARE"), [low])

        assert free == [(high,)]
        # What refers to an account, as a foreign key does, does not wait for who posts to it.
        assert shared == [(low,)]
        assert asking.ended().fault is None
        assert breaches() == []

    def test_are_locked_in_that_order_whatever_the_plan(self, books):
        """Of thousands Postgres may read all rows as they lie, which is in no order of ids."""
        organization, *accounts = books
        _, middle, high = accounts

        def act() -> None:
            sql("SET enable_indexscan = off")
            sql("SET enable_bitmapscan = off")
            larger_act(organization, *accounts)

        with held(middle):
            asking = Asking(act)
            wait_until(is_waiting)

            free = sql(BALANCES.format("NO KEY UPDATE"), accounts)

        assert free == [(high,)]
        assert asking.ended().fault is None


class TestHolds:
    def test_are_locked_from_the_lowest_id_on_and_before_any_balance(self, books):
        organization, low, middle, high = books
        placed = [PlaceHold(id=new_id(), **terms(low, high)) for _ in range(3)]
        post(organization, *placed)
        first, second, third = sorted(one.id for one in placed)
        ends = [
            VoidHold(hold_id=third),
            CaptureHold(hold_id=second, entry_id=new_id(), kind="x"),
            CaptureHold(hold_id=first, entry_id=new_id(), kind="x"),
        ]
        with held(second, table="ledger_hold"):
            asking = Asking(partial(post, organization, *ends))
            wait_until(is_waiting)

            free = sql(HOLDS, [first, second, third])
            balances = sql(BALANCES.format("NO KEY UPDATE"), [low, middle, high])

        assert free == [(third,)]
        assert sorted(balances) == [(low,), (middle,), (high,)]
        assert asking.ended().fault is None
        assert (balance(organization, low).posted, balance(organization, high).posted) == (98, 102)
        assert breaches() == []
