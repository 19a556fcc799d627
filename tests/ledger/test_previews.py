"""A dry run is of one instant, whatever is posted while it is read."""

from contextlib import contextmanager
from decimal import Decimal
from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core.errors import Refusal
from apps.ledger import operations
from apps.ledger.errors import InsufficientFunds
from apps.ledger.operations import EntryRequest, FxRequest
from apps.ledger.rules import Leg
from tests.ledger.exchanges import exchange
from tests.ledger.factories import (
    ACTOR,
    NOW,
    create_organization,
    fund,
    open_account,
    post_transfer,
)
from tests.ledger.threads import Asking

pytestmark = pytest.mark.django_db(transaction=True)


class Books:
    """Ann has 100.00, of which Bob sent 40.00; dollars wait for an exchange."""

    def __init__(self) -> None:
        self.id = create_organization()
        self.ann, self.bob, self.dollars = (
            open_account(self.id, f"wallets:{code}") for code in ("ann:EUR", "bob:EUR", "ann:USD")
        )
        fund(self.id, self.ann, 60_00)
        fund(self.id, self.bob, 40_00)
        self.gift = post_transfer(self.id, self.bob, self.ann, 40_00, key="gift").entry_id
        self.mine = {"organization_id": self.id, "now": NOW}

    def exchange(self, **more: object):
        fx = FxRequest(
            from_account_id=self.ann, to_account_id=self.dollars, sold_minor=10_00,
            sold_currency="EUR", bought_currency="USD", rate=Decimal("1.08456"), source="ecb",
            quoted_at=NOW, **more,
        )  # fmt: skip
        return operations.preview_exchange(fx=fx, **self.mine)

    def reversal(self):
        return operations.preview_reversal(entry_ids=[self.gift], at="now", **self.mine)

    def reversibility(self):
        return operations.can_reverse(entry_id=self.gift, at="now", **self.mine)

    def reversal_by_hand(self):
        return operations.preview_reversal_by_hand(entry_id=self.gift, at="now", **self.mine)

    def adjustment(self):
        legs = (Leg(self.ann, 5_00, "EUR"), Leg(self.bob, -5_00, "EUR"))
        return operations.preview_adjustment(entry=EntryRequest(legs=legs), **self.mine)

    def exchange_that_stands(self):
        exchange(self.id, self.ann, self.dollars, 10_00, reference="r")
        return partial(self.exchange, reference="r")

    def exchange_undone(self):
        fx_id = exchange(self.id, self.ann, self.dollars, 10_00)
        return partial(operations.preview_fx_reversal, fx_transfer_id=fx_id, at="now", **self.mine)

    def undo(self) -> None:
        operations.reverse_entries(
            entry_ids=[self.gift], at="now", reason="", idempotency_key="undo", actor=ACTOR,
            **self.mine,
        )  # fmt: skip


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture(
    params=[
        "exchange", "exchange that stands", "exchange undone", "reversal", "reversibility",
        "reversal by hand", "adjustment",
    ]
)  # fmt: skip
def preview(request, books):
    found = getattr(books, request.param.replace(" ", "_"))
    return found() if request.param in {"exchange that stands", "exchange undone"} else found


@contextmanager
def once_something_was_read(act):
    """Let `act` commit in a thread of its own between the first read of the ledger and the next."""
    read = []

    def watch(execute, sql, params, many, context):
        if read == ["once"]:
            read.append("acted")
            assert Asking(act).ended().fault is None
        if not read and "ledger_" in sql:
            read.append("once")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield
    assert read == ["once", "acted"]


def kinds(captured: CaptureQueriesContext) -> list[str]:
    return [query["sql"].split()[0] for query in captured]


class TestADryRun:
    def test_reads_all_in_one_transaction(self, preview):
        with CaptureQueriesContext(connection) as captured:
            preview()

        assert "REPEATABLE READ, READ ONLY" in captured[1]["sql"]
        first, second, *reads, last = kinds(captured)
        assert (first, second, last) == ("BEGIN", "SET", "COMMIT")
        assert len(reads) > 1
        assert {read.rstrip("(") for read in reads} <= {"SELECT", "WITH"}

    def test_that_is_refused_ends_its_transaction(self, books):
        post_transfer(books.id, books.ann, books.bob, 70_00, key="spent")

        with CaptureQueriesContext(connection) as captured, pytest.raises(InsufficientFunds):
            books.reversal()

        assert (kinds(captured)[0], kinds(captured)[-1]) == ("BEGIN", "ROLLBACK")
        assert not connection.in_atomic_block

    @pytest.mark.parametrize("name", ["reversal", "reversal_by_hand", "reversibility"])
    def test_of_a_reversal_is_as_before_what_undoes_the_entry_meanwhile(self, books, name):
        preview = getattr(books, name)
        before = preview()

        with once_something_was_read(books.undo):
            assert preview() == before

        assert isinstance(outcome_of(preview), Refusal)

    def test_of_an_exchange_is_as_before_what_opens_its_liquidity_meanwhile(self, books):
        def told():
            found = books.exchange()
            return len(found.unopened), [one.posted for one in found.balances]

        before = told()

        with once_something_was_read(lambda: exchange(books.id, books.ann, books.dollars, 50_00)):
            assert told() == before

        assert before[0] == 2
        assert told()[0] == 0


def outcome_of(call):
    try:
        return call()
    except Refusal as refusal:
        return refusal
