"""Holds on the real engine: place, capture, void, and their races."""

from functools import partial

import pytest

from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.ledger.errors import InsufficientFunds, ReferenceReused
from apps.ledger.models import Hold, HoldEvent, Posting
from apps.ledger.rules import CaptureHold, PlaceHold, VoidHold
from tests.ledger.factories import balance, create_organization, fund, open_account, post
from tests.ledger.rows import fingerprints
from tests.support import past_the_guards, race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "customers:cus_ann:available:EUR")
    transit = open_account(organization, "escrow:main:EUR", floor=None, internal=True)
    fund(organization, ann, 50_00)
    return organization, ann, transit


def place(organization, ann, transit, amount, **more):
    command = PlaceHold(
        id=new_id(), debit_account_id=ann, credit_account_id=transit, amount_minor=amount,
        currency="EUR", **more,
    )  # fmt: skip
    post(organization, command)
    return command.id


def capture(organization, hold, amount=None, reference=None):
    return post(
        organization,
        CaptureHold(
            hold_id=hold,
            entry_id=new_id(),
            kind="payout",
            amount_minor=amount,
            reference=reference,
        ),
    )[0]


def void(organization, hold):
    return post(organization, VoidHold(hold_id=hold))[0]


class TestHold:
    def test_capture_posts_its_part_and_frees_the_rest(self, books):
        organization, ann, transit = books
        hold = place(organization, ann, transit, 15_00)
        assert balance(organization, ann).available == 35_00

        capture(organization, hold, 13_00)

        assert balance(organization, ann).available == 37_00
        assert balance(organization, transit).posted == 13_00
        assert [e.kind for e in HoldEvent.objects.order_by("id")] == ["placed", "captured"]
        assert breaches() == []

    def test_linked_holds_are_placed_together_or_not_at_all(self, books):
        organization, ann, transit = books
        fees = open_account(organization, "escrow:fees:EUR", type_="income", floor=None)
        amount = PlaceHold(id=new_id(), debit_account_id=ann, credit_account_id=transit,
                           amount_minor=50_00, currency="EUR", linked=True)  # fmt: skip
        fee = PlaceHold(id=new_id(), debit_account_id=ann, credit_account_id=fees,
                        amount_minor=1, currency="EUR")  # fmt: skip

        with pytest.raises(InsufficientFunds) as refused:
            post(organization, amount, fee)

        assert refused.value.details["index"] == 1
        assert Hold.objects.count() == 0
        assert balance(organization, ann).available == 50_00

    def test_placed_and_voided_in_one_batch_leaves_its_history(self, books):
        organization, ann, transit = books
        hold = PlaceHold(id=new_id(), debit_account_id=ann, credit_account_id=transit,
                         amount_minor=5_00, currency="EUR")  # fmt: skip

        post(organization, hold, VoidHold(hold_id=hold.id))

        assert Hold.objects.get().status == "voided"
        assert [e.kind for e in HoldEvent.objects.order_by("id")] == ["placed", "voided"]
        assert balance(organization, ann).available == 50_00
        assert breaches() == []

    def test_a_capture_applied_twice_under_its_reference_posts_once(self, books):
        organization, ann, transit = books
        hold = place(organization, ann, transit, 15_00)

        first = capture(organization, hold, reference="payout:pat_1:submit")
        second = capture(organization, hold, reference="payout:pat_1:submit")

        assert (first.status, second.status) == ("posted", "replayed")
        assert first.entry_id == second.entry_id
        assert balance(organization, transit).posted == 15_00


class TestRace:
    def test_six_holds_of_ten_on_fifty_leave_exactly_five(self, books):
        organization, ann, transit = books

        outcomes = race(*[partial(place, organization, ann, transit, 10_00)] * 6)

        assert sorted(type(outcome).__name__ for outcome in outcomes) == [
            "InsufficientFunds", *["UUID"] * 5,
        ]  # fmt: skip
        assert balance(organization, ann).available == 0
        assert breaches() == []

    @pytest.mark.parametrize("turn", range(10))
    def test_capture_against_void_has_one_winner_and_one_end(self, books, turn):
        organization, ann, transit = books
        hold = place(organization, ann, transit, 10_00)

        outcomes = race(
            partial(capture, organization, hold), partial(void, organization, hold),
            partial(capture, organization, hold),
        )  # fmt: skip

        won = [outcome for outcome in outcomes if hasattr(outcome, "status")]
        assert len(won) == 1
        assert {getattr(o, "code", None) for o in outcomes if o not in won} <= {
            "hold_already_captured", "hold_already_voided",
        }  # fmt: skip
        assert HoldEvent.objects.filter(terminal=True).count() == 1
        captured = won[0].status == "posted"
        assert balance(organization, transit).posted == (10_00 if captured else 0)
        assert Posting.objects.filter(account_id=transit).count() == int(captured)
        assert breaches() == []


class TestReferencesOfBefore:
    """Holds from before references were kept: under one there may be several that have ended."""

    @pytest.fixture
    def named(self, books):
        """Return what places holds of these amounts under one name, one as the last has ended."""
        organization, ann, transit = books

        def place_all(*amounts, leaves_open=False):
            placed = []
            for amount in amounts:
                placed.append(place(organization, ann, transit, amount, reference="payout:1"))
                if not leaves_open or amount != amounts[-1]:
                    void(organization, placed[-1])
            past_the_guards("UPDATE ledger_hold SET reference = 'order-1'")
            assert not Hold.objects.filter(keeps_reference=True).exists()
            return placed

        return place_all

    @pytest.mark.parametrize("leaves_open", [False, True])
    def test_stand_for_the_open_one_or_the_latest(self, books, named, leaves_open):
        organization, ann, transit = books
        *_, last = named(1, 2, 3, leaves_open=leaves_open)
        before = fingerprints("ledger_", locks=False)

        told = [asked(organization, ann, transit, amount) for amount in (3, 2, 1)]

        assert (told[0].status, told[0].hold.id) == ("replayed", last)
        assert told[0].hold.status == ("open" if leaves_open else "voided")
        assert [(one.code, one.details) for one in told[1:]] == [
            ("reference_reused", {"hold": encode_id("ho", last)})
        ] * 2
        assert fingerprints("ledger_", locks=False) == before

    def test_stand_for_the_open_one_though_one_of_a_later_id_has_ended(self, books, named):
        """Clocks of hosts differ, and ids are made by them."""
        organization, ann, transit = books
        first, last = named(1, 2, leaves_open=True)
        past_the_guards(
            "UPDATE ledger_hold SET status = 'voided'",
            f"UPDATE ledger_hold SET status = 'open' WHERE id = '{first}'",
        )

        told = [asked(organization, ann, transit, amount) for amount in (1, 2)]

        assert last > first
        assert (told[0].status, told[0].hold.id) == ("replayed", first)
        assert told[1].details == {"hold": encode_id("ho", first)}


def asked(organization, ann, transit, amount):
    """Return what becomes of a hold of this amount under the reference, or its refusal."""
    command = PlaceHold(
        id=new_id(), debit_account_id=ann, credit_account_id=transit, amount_minor=amount,
        currency="EUR", reference="order-1",
    )  # fmt: skip
    try:
        [outcome] = post(organization, command)
    except ReferenceReused as refusal:
        return refusal
    return outcome
