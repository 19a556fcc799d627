"""`recorded_at` is the server's, whoever says what; `effective_at` is the client's, or now."""

from datetime import timedelta
from functools import partial

import pytest
from django.db import connection

from apps.core import clock
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.core.wall_clock import print_instant
from apps.ledger import operations
from apps.ledger.models import HoldEvent, JournalEntry, Posting
from apps.ledger.operations import EntryRequest
from apps.ledger.rules import CaptureHold, Leg, PlaceHold, VoidHold
from tests.ledger.acting import Client
from tests.ledger.clients import code_of, pointers, printed
from tests.ledger.factories import (
    ACTOR,
    NOW,
    create_organization,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.rows import fingerprints
from tests.ledger.threads import Asking, held, is_waiting
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

EARLY, LATE = NOW - timedelta(days=40), NOW + timedelta(days=40)


@pytest.fixture
def books():
    organization = create_organization()
    accounts = sorted(open_account(organization, f"wallets:w{n}:EUR", floor=None) for n in range(3))
    return organization, *accounts


def server_time():
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def transfer(organization, ann, bob, at):
    post_transfer(organization, ann, bob, 5, key="k", effective_at=at)


def batch(organization, ann, bob, at):
    request = operations.TransferRequest(
        debit_account_id=ann, credit_account_id=bob, amount_minor=5, currency="EUR",
        effective_at=at,
    )  # fmt: skip
    operations.post_transfers(
        organization_id=organization, transfers=[request], mode="atomic", idempotency_key="k",
        actor=ACTOR, now=NOW,
    )  # fmt: skip


def entry(organization, ann, bob, at):
    legs = (Leg(ann, 5, "EUR"), Leg(bob, -5, "EUR"))
    operations.post_entry(
        organization_id=organization, entry=EntryRequest(legs=legs, effective_at=at),
        idempotency_key="k", actor=ACTOR, now=NOW,
    )  # fmt: skip


def capture(organization, ann, bob, at):
    hold = PlaceHold(
        id=new_id(), debit_account_id=ann, credit_account_id=bob, amount_minor=5, currency="EUR"
    )
    captured = CaptureHold(hold_id=hold.id, entry_id=new_id(), kind="capture", effective_at=at)
    post(organization, hold, captured)


class TestAnEntry:
    @pytest.mark.parametrize("at", [None, EARLY, LATE], ids=["now", "early", "late"])
    @pytest.mark.parametrize("act", [transfer, batch, entry, capture])
    def test_has_the_clients_time_and_the_servers(self, books, act, at):
        organization, ann, bob, _ = books

        before = server_time()
        act(organization, ann, bob, at)
        after = server_time()

        written = JournalEntry.objects.get()
        assert written.effective_at == (at or NOW)
        assert before <= written.recorded_at <= after
        assert set(Posting.objects.values_list("effective_at", "recorded_at")) == {
            (written.effective_at, written.recorded_at)
        }
        for event in HoldEvent.objects.all():
            assert before <= event.recorded_at <= after

    def test_that_waited_is_recorded_when_it_is_written_and_not_when_it_was_begun(self, books):
        """So an account's postings were recorded in the order of their versions."""
        organization, low, middle, high = books
        with held(low):
            waits = Asking(partial(post, organization, move(low, high, 1)))
            wait_until(is_waiting)
            post(organization, move(middle, high, 1))
            written = server_time()

        assert waits.ended().fault is None
        recorded = list(
            Posting.objects.filter(account_id=high)
            .order_by("account_version")
            .values_list("recorded_at", flat=True)
        )
        assert recorded[0] <= written <= recorded[1]
        assert breaches() == []


class TestOverTheApi:
    @pytest.mark.parametrize(
        "act", ["transfers", "transfers/batch", "journal-entries", "holds", "capture", "reversal"]
    )
    @pytest.mark.parametrize("name", ["recorded_at", "created_at"])
    def test_nobody_says_when_something_is_recorded(self, act, name):
        api = Client()
        api.begin()
        body = api.body(act) | {name: "2026-06-15T12:00:00Z"}
        before = fingerprints("ledger_", "core_")

        refused = api.post(api.path(act), body)

        assert (refused.status_code, pointers(refused)) == (400, [f"/{name}"])
        assert fingerprints("ledger_", "core_") == before


class TestAHold:
    def test_has_the_acts_time_and_its_history_the_servers(self, books):
        organization, ann, bob, _ = books
        hold = PlaceHold(
            id=new_id(), debit_account_id=ann, credit_account_id=bob, amount_minor=5,
            currency="EUR",
        )  # fmt: skip

        before = server_time()
        post(organization, hold)
        between = server_time()
        post(organization, VoidHold(hold_id=hold.id))
        after = server_time()

        placed, voided = HoldEvent.objects.order_by("id")
        assert before <= placed.recorded_at <= between <= voided.recorded_at <= after


class TestMoneyThatIsDatedLater:
    def test_is_in_available_and_leaves_no_earlier(self):
        api = Client()
        then = print_instant(clock.now() + timedelta(days=3))
        came = {"debit_account": printed(api.ann), "credit_account": printed(api.bob)}
        goes = {"debit_account": printed(api.bob), "credit_account": printed(api.ann)}
        terms = {"amount": 30_00, "currency": "EUR"}
        api.post("/v1/transfers", came | terms | {"effective_at": then}, key="came")

        refused = [
            api.post("/v1/transfers", goes | terms, key="now"),
            api.post("/v1/transfers", goes | terms | {"up_to": True}, key="up-to"),
            api.post("/v1/holds", goes | terms, key="hold"),
        ]

        assert [code_of(one) for one in refused] == [(422, "later_balance_below_floor")] * 3
        # Which balance it is, and when: as of now nothing has come, and nothing is dated early.
        for told in (one.json() for one in refused):
            assert told["detail"] == (
                f"This would leave -30.00 EUR on {printed(api.bob)} at {told['balance_at']},"
                " below its floor of 0.00 EUR: money counts from its business time on."
            )
            assert told["balance_at"] < then
        account = api.get(f"/v1/ledger-accounts/{printed(api.bob)}").json()
        assert (account["posted"], account["available"]) == (30_00, 30_00)
        # As of now nothing has come.
        [line] = api.get("/v1/balances", ledger_account=printed(api.bob)).json()["data"]
        assert line["posted"] == 0
        left = api.post("/v1/transfers", goes | terms | {"effective_at": then}, key="then")
        assert left.status_code == 201
        assert breaches() == []
