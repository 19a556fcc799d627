"""Money of later is not spent before; `force` lets go of the past alone, and not of what is now."""

from datetime import timedelta

import pytest

from apps.core.errors import Refusal
from apps.core.ids import encode_id
from apps.core.invariants import breaches
from apps.core.models import AuditEvent
from apps.core.wall_clock import print_instant
from apps.ledger import operations
from apps.ledger.operations import EntryRequest, TransferRequest
from apps.ledger.rules import Leg
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    open_account,
    post_transfer,
)
from tests.ledger.histories import balances_at

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)
WHENS = pytest.mark.parametrize("at", [None, NOW - 9 * DAY, NOW + DAY], ids=["now", "past", "next"])


@pytest.fixture
def books():
    """Ann has 30 now, and 100 more in twenty days."""
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR")
    bob = open_account(organization, "wallets:bob:EUR")
    fund(organization, ann, 30, at=NOW - DAY)
    fund(organization, ann, 100, at=NOW + 20 * DAY)
    return organization, ann, bob


def stands_at(organization, account, at) -> int:
    [found] = balances_at(organization, at, account_id=account)
    return found.posted


def post_entry(organization, debit, credit, amount, *, at):
    entry = EntryRequest(
        legs=(Leg(debit, amount, "EUR"), Leg(credit, -amount, "EUR")), effective_at=at, force=True
    )
    return operations.post_entry(
        organization_id=organization, entry=entry, idempotency_key="e", actor=ACTOR, now=NOW
    )


class TestWithoutForce:
    def test_a_hold_does_not_reserve_what_comes_later(self, books):
        organization, ann, bob = books
        asked = {"debit_account_id": ann, "credit_account_id": bob, "currency": "EUR"}

        def place(amount):
            return operations.place_hold(
                organization_id=organization,
                hold=operations.HoldRequest(amount_minor=amount, **asked),
                idempotency_key=f"h-{amount}", actor=ACTOR, now=NOW,
            )  # fmt: skip

        with pytest.raises(Refusal) as refused:
            place(31)

        assert (refused.value.code, refused.value.details["balance"]) == (
            "later_balance_below_floor",
            -1,
        )
        assert balance(organization, ann).pending_out == 0
        place(30)
        assert breaches() == []

    def test_what_a_server_whose_clock_is_ahead_has_posted_is_there(self, books):
        organization, _, bob = books
        cat = open_account(organization, "wallets:cat:EUR")
        ahead = NOW + timedelta(seconds=5)
        fund(organization, cat, 100, at=ahead)

        done = post_transfer(organization, cat, bob, 100, key="k")

        assert done.outcome.effective_at == ahead
        assert stands_at(organization, cat, ahead) == 0
        assert breaches() == []

    def test_what_is_dated_beyond_that_is_not(self, books):
        organization, _, bob = books
        cat = open_account(organization, "wallets:cat:EUR")
        fund(organization, cat, 100, at=NOW + timedelta(seconds=6))

        with pytest.raises(Refusal) as refused:
            post_transfer(organization, cat, bob, 100, key="k")

        assert refused.value.code == "later_balance_below_floor"
        assert balance(organization, cat).posted == 100


class TestForce:
    @WHENS
    def test_does_not_spend_what_comes_later(self, books, at):
        organization, ann, bob = books
        asked = TransferRequest(
            debit_account_id=ann, credit_account_id=bob, amount_minor=31, currency="EUR",
            effective_at=at, force=True,
        )  # fmt: skip

        with pytest.raises(Refusal) as dry:
            operations.preview_transfers(
                organization_id=organization, transfers=[asked], mode="atomic", now=NOW
            )
        with pytest.raises(Refusal) as plain:
            post_transfer(organization, ann, bob, 31, key="p")
        with pytest.raises(Refusal) as forced:
            post_transfer(organization, ann, bob, 31, key="f", effective_at=at, force=True)
        with pytest.raises(Refusal) as entry:
            post_entry(organization, ann, bob, 31, at=at)

        refusals = [told.value for told in (plain, dry, forced, entry)]
        assert [one.code for one in refusals] == ["later_balance_below_floor"] * 4
        assert [one.details["balance"] for one in refusals] == [-1] * 4
        assert balance(organization, ann).posted == 130
        assert not AuditEvent.objects.filter(act__startswith="ledger.force").exists()
        assert breaches() == []

    @WHENS
    def test_moves_up_to_what_there_is_from_then_on(self, books, at):
        organization, ann, bob = books

        done = post_transfer(
            organization, ann, bob, 50, key="u", effective_at=at, up_to=True, force=True
        )

        assert done.outcome.lines[0].amount_minor == 30
        assert stands_at(organization, ann, NOW + DAY) == 0
        assert breaches() == []

    def test_counts_what_is_reserved_now(self, books):
        organization, ann, bob = books
        operations.place_hold(
            organization_id=organization,
            hold=operations.HoldRequest(
                debit_account_id=ann, credit_account_id=bob, amount_minor=20, currency="EUR"
            ),
            idempotency_key="h", actor=ACTOR, now=NOW,
        )  # fmt: skip
        early = {"effective_at": NOW - 9 * DAY, "force": True}

        with pytest.raises(Refusal) as refused:
            post_transfer(organization, ann, bob, 11, key="a", **early)
        post_transfer(organization, ann, bob, 10, key="b", **early)

        assert refused.value.code == "later_balance_below_floor"
        assert stands_at(organization, ann, NOW) == 20
        assert breaches() == []

    def test_lets_go_what_lies_before_now(self, books):
        organization, ann, bob = books
        early = NOW - 9 * DAY

        with pytest.raises(Refusal) as plain:
            post_transfer(organization, ann, bob, 30, key="p", effective_at=early)
        post_transfer(organization, ann, bob, 30, key="f", effective_at=early, force=True)

        assert plain.value.code == "later_balance_below_floor"
        assert stands_at(organization, ann, NOW - 2 * DAY) == -30
        assert stands_at(organization, ann, NOW) == 0
        assert AuditEvent.objects.filter(act="ledger.force_transfer").count() == 1
        assert breaches() == []


class TestTheTrail:
    """A reviewer sees what was moved, and how far which floor was broken, without the books."""

    def shown(self, organization) -> dict:
        [row] = AuditEvent.objects.filter(
            organization_id=organization, act__startswith="ledger.force"
        )
        return row.after

    def test_says_what_moved_and_what_it_broke(self, books):
        organization, ann, bob = books
        early = NOW - 9 * DAY
        la_ann, la_bob = encode_id("la", ann), encode_id("la", bob)

        post_transfer(organization, ann, bob, 30, key="f", effective_at=early, force=True)

        after = self.shown(organization)
        assert after["postings"] == [
            {"ledger_account": la_ann, "amount": 30, "currency": "EUR"},
            {"ledger_account": la_bob, "amount": -30, "currency": "EUR"},
        ]
        # Nothing was there nine days ago; what came eight days later made up for it.
        assert after["floors_broken"] == [
            {
                "ledger_account": la_ann,
                "currency": "EUR",
                "min_available": 0,
                "balance": -30,
                "balance_at": print_instant(early),
            }
        ]

    def test_names_the_lowest_balance_and_when_it_was(self, books):
        organization, ann, bob = books
        fund(organization, ann, 40, at=NOW - 9 * DAY)
        post_transfer(organization, ann, bob, 35, key="spent", effective_at=NOW - 5 * DAY)

        post_transfer(organization, ann, bob, 20, key="f", effective_at=NOW - 7 * DAY, force=True)

        [broken] = self.shown(organization)["floors_broken"]
        assert (broken["balance"], broken["balance_at"]) == (-15, print_instant(NOW - 5 * DAY))

    def test_of_what_broke_nothing_says_so(self, books):
        organization, ann, bob = books

        post_transfer(organization, ann, bob, 30, key="f", force=True)

        assert self.shown(organization)["floors_broken"] == []

    def test_of_an_entry_says_it_of_each_leg_that_takes(self, books):
        organization, ann, bob = books
        cat = open_account(organization, "wallets:cat:EUR")
        fund(organization, cat, 25, at=NOW - DAY)

        entry = EntryRequest(
            legs=(Leg(ann, 30, "EUR"), Leg(cat, 25, "EUR"), Leg(bob, -55, "EUR")),
            effective_at=NOW - 9 * DAY, force=True,
        )  # fmt: skip
        operations.post_entry(
            organization_id=organization, entry=entry, idempotency_key="e", actor=ACTOR, now=NOW
        )

        after = self.shown(organization)
        assert [leg["amount"] for leg in after["postings"]] == [30, 25, -55]
        assert [(one["ledger_account"], one["balance"]) for one in after["floors_broken"]] == [
            (encode_id("la", ann), -30),
            (encode_id("la", cat), -25),
        ]
        assert breaches() == []
