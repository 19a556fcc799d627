"""An account is changed by what stands on it from now on, and what is reserved at this moment."""

from datetime import timedelta
from itertools import count

import pytest

from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.core.models import AuditEvent, OutboxEvent
from apps.ledger import operations, queries
from apps.ledger.models import Hold
from apps.ledger.operations import AccountChange, EntryRequest, HoldRequest, TransferRequest
from apps.ledger.rules import AccountStatus, Leg, PlaceHold, VoidHold
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.rows import fingerprints

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)
CLOSED = AccountChange(reason="left", status=AccountStatus.CLOSED)
keys = count()


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR", floor=None)
    bob = open_account(organization, "wallets:bob:EUR", floor=None)
    return organization, ann, bob


def floor_of(amount: int) -> AccountChange:
    return AccountChange(reason="kept back", sets_floor=True, min_available_minor=amount)


def change(organization, account, what, *, key="k", now=NOW) -> Refusal | None:
    try:
        operations.change_client_account(
            organization_id=organization, account_id=account, change=what, idempotency_key=key,
            actor=ACTOR, now=now,
        )  # fmt: skip
    except Refusal as refusal:
        return refusal
    return None


def hold(organization, debit, credit, amount, *, expires_at):
    command = PlaceHold(
        id=new_id(), debit_account_id=debit, credit_account_id=credit, amount_minor=amount,
        currency="EUR", expires_at=expires_at,
    )  # fmt: skip
    post(organization, command)
    return command.id


class TestAFloor:
    def test_above_a_balance_of_later_is_refused_and_nothing_changes(self, books):
        organization, ann, bob = books
        post(organization, move(ann, bob, 100))
        fund(organization, ann, 130, at=NOW + 30 * DAY)
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        refused = change(organization, ann, floor_of(0))

        assert refused.code == "floor_above_available"
        assert refused.details["available"] == -100
        assert refused.details["available_at"] == NOW.isoformat().replace("+00:00", "Z")
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before
        assert change(organization, ann, floor_of(-100), key="lower") is None
        assert breaches() == []

    def test_above_what_a_later_outflow_leaves_is_refused(self, books):
        organization, ann, bob = books
        fund(organization, ann, 100)
        post(organization, move(ann, bob, 60, effective_at=NOW + 3 * DAY))
        fund(organization, ann, 60, at=NOW + 9 * DAY)

        refused = change(organization, ann, floor_of(41))

        assert (refused.code, refused.details["available"]) == ("floor_above_available", 40)
        assert change(organization, ann, floor_of(40), key="lower") is None

    def test_is_not_asked_of_the_past(self, books):
        organization, ann, bob = books
        post(organization, move(ann, bob, 10, effective_at=NOW - 9 * DAY))
        fund(organization, ann, 10, at=NOW - DAY)

        assert change(organization, ann, floor_of(0)) is None

    def test_counts_what_a_server_whose_clock_is_ahead_has_posted(self, books):
        organization, ann, _ = books
        fund(organization, ann, 100, at=NOW + timedelta(seconds=3))

        assert change(organization, ann, floor_of(100)) is None

    def test_of_an_account_that_nothing_was_posted_to_is_at_most_0(self, books):
        organization, ann, _ = books

        refused = change(organization, ann, floor_of(1))

        assert (refused.code, refused.details["available"]) == ("floor_above_available", 0)
        assert change(organization, ann, floor_of(0), key="lower") is None

    def test_of_an_asset_counts_its_own_side(self, books):
        organization, _, bob = books
        till = open_account(organization, "tills:one:EUR", type_="asset", floor=None)
        post(organization, move(bob, till, 20))
        post(organization, move(till, bob, 20, effective_at=NOW + DAY))

        refused = change(organization, till, floor_of(0))

        assert (refused.code, refused.details["available"]) == ("floor_above_available", -20)


class TestAChange:
    def test_is_told_with_what_stands_from_then_on(self, books):
        organization, ann, _ = books
        frozen = AccountChange(
            reason="fraud", status=AccountStatus.FROZEN, sets_floor=True, min_available_minor=-5
        )

        assert change(organization, ann, frozen) is None
        assert (
            change(organization, ann, AccountChange(reason="x", sets_floor=True), key="l") is None
        )

        told = OutboxEvent.objects.filter(
            type="ledger_account.changed", aggregate_id=encode_id("la", ann)
        ).order_by("sequence")
        assert [(event.sequence, event.actor, event.data) for event in told] == [
            (2, "job:tests", {"status": "frozen", "min_available": -5}),
            (3, "job:tests", {"status": "frozen", "min_available": None}),
        ]


class TestClosing:
    def test_while_something_is_dated_later_is_refused(self, books):
        organization, ann, bob = books
        post(organization, move(ann, bob, 10))
        fund(organization, ann, 10, at=NOW + 30 * DAY)
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        refused = change(organization, ann, CLOSED)

        assert balance(organization, ann).posted == 0
        assert refused.code == "ledger_account_not_empty"
        later = (NOW + 30 * DAY).isoformat().replace("+00:00", "Z")
        assert refused.details["latest_effective_at"] == later
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before
        # Once that time has come nothing is left that could come.
        assert change(organization, ann, CLOSED, key="then", now=NOW + 30 * DAY) is None
        assert balance(organization, ann).status == "closed"

    @pytest.mark.parametrize("place", [0, 1], ids=["from", "to"])
    def test_while_something_is_reserved_on_either_account_is_refused(self, books, place):
        organization, *accounts = books
        lasting = hold(organization, *accounts, 30, expires_at=None)
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        refused = change(organization, accounts[place], CLOSED)

        assert refused.code == "ledger_account_not_empty"
        reserved = [refused.details[name] for name in ("posted", "pending_out", "pending_in")]
        assert reserved == [0, *((30, 0), (0, 30))[place]]
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before
        post(organization, VoidHold(hold_id=lasting))
        assert change(organization, accounts[place], CLOSED, key="then") is None
        assert breaches() == []


def transfer(organization, debit, credit, _) -> None:
    operations.post_transfer(**asked(organization), transfer=requested(debit, credit))


def batch(organization, debit, credit, _) -> None:
    transfers = [requested(debit, credit)]
    operations.post_transfers(**asked(organization), transfers=transfers, mode="atomic")


def entry(organization, debit, credit, _) -> None:
    legs = (Leg(debit, 1, "EUR"), Leg(credit, -1, "EUR"))
    operations.post_entry(**asked(organization), entry=EntryRequest(legs=legs))


def placing(organization, debit, credit, _) -> None:
    request = HoldRequest(
        debit_account_id=debit, credit_account_id=credit, amount_minor=1, currency="EUR"
    )
    operations.place_hold(**asked(organization), hold=request)


def reversal(organization, debit, credit, earlier) -> None:
    operations.reverse_entries(**asked(organization), entry_ids=[earlier], at="now", reason="")


def asked(organization) -> dict:
    return {
        "organization_id": organization, "idempotency_key": f"act-{next(keys)}", "actor": ACTOR,
        "now": NOW,
    }  # fmt: skip


def requested(debit, credit) -> TransferRequest:
    return TransferRequest(
        debit_account_id=debit, credit_account_id=credit, amount_minor=1, currency="EUR"
    )


@pytest.mark.parametrize("act", [transfer, batch, entry, placing, reversal])
@pytest.mark.parametrize("status", ["frozen", "closed"])
class TestAnAccountThatIsNotOpen:
    def test_takes_nothing_on_either_side_until_it_is_opened_again(self, books, act, status):
        organization, ann, bob = books
        earlier = post_transfer(organization, ann, bob, 10, key="there").entry_id
        post_transfer(organization, bob, ann, 10, key="back")
        shut = AccountChange(reason="left", status=AccountStatus(status))
        assert change(organization, bob, shut, key="shut") is None
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        for pair in ((ann, bob), (bob, ann)):
            with pytest.raises(Refusal) as refused:
                act(organization, *pair, earlier)
            assert refused.value.code == f"ledger_account_{status}"
            assert refused.value.details["ledger_account"] == encode_id("la", bob)

        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before
        opened = AccountChange(reason="is back", status=AccountStatus.OPEN)
        assert change(organization, bob, opened, key="open") is None
        act(organization, ann, bob, earlier)
        assert breaches() == []


class TestAHoldThatIsOver:
    """No sweeper has run: by the clock it reserves nothing."""

    def test_is_not_in_the_way_of_a_floor(self, books):
        organization, ann, bob = books
        fund(organization, ann, 100)
        over = hold(organization, ann, bob, 100, expires_at=NOW)

        assert change(organization, ann, floor_of(50)) is None

        assert Hold.objects.get(id=over).status == "expired"
        assert balance(organization, ann).available == 100
        assert AuditEvent.objects.filter(act="ledger.change_account").count() == 1
        assert breaches() == []

    @pytest.mark.parametrize("place", [0, 1], ids=["from", "to"])
    def test_is_not_in_the_way_of_closing_either_account(self, books, place):
        organization, *accounts = books
        hold(organization, *accounts, 100, expires_at=NOW)

        assert change(organization, accounts[place], CLOSED) is None

        assert balance(organization, accounts[place]).status == "closed"
        assert OutboxEvent.objects.filter(type="hold.expired").count() == 1
        assert breaches() == []

    def test_beside_one_that_lasts_leaves_the_refusal_that_is_due(self, books):
        organization, ann, bob = books
        fund(organization, ann, 100)
        hold(organization, ann, bob, 30, expires_at=NOW)
        hold(organization, ann, bob, 20, expires_at=NOW + DAY)

        refused = change(organization, ann, floor_of(81))
        again = change(organization, ann, floor_of(81))

        assert (refused.code, refused.details["available"]) == ("floor_above_available", 80)
        assert again.details == refused.details
        assert change(organization, ann, floor_of(80), key="lower") is None

    def test_reserves_nothing_in_the_balance_that_is_read_with_its_holds(self, books):
        organization, ann, bob = books
        fund(organization, ann, 100)
        hold(organization, ann, bob, 60, expires_at=NOW)
        lasting = hold(organization, ann, bob, 10, expires_at=NOW + DAY)
        hold(organization, bob, ann, 5, expires_at=NOW)

        def read(account):
            view, holds, _ = queries.balance_with_holds(
                organization_id=organization, account_id=account, now=NOW
            )
            return view.available, view.pending_out, view.pending_in, [one.id for one in holds]

        before = fingerprints("ledger_")
        assert read(ann) == (90, 10, 0, [lasting])
        assert read(bob) == (0, 0, 10, [])
        assert fingerprints("ledger_") == before
