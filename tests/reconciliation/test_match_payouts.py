"""Bank lines that are payouts of ours, through the statement (reconciliation.md, section 9)."""

from datetime import date

import pytest

from apps.banking.models import BankLineStatus
from apps.payouts import queries as payouts
from apps.reconciliation.models import Break, Match, MatchLeg
from tests.banking.factories import import_file
from tests.banking.statements import Entry, Made, camt053
from tests.payouts import factories as world
from tests.payouts.factories import IBANS
from tests.reconciliation.factories import assert_books_hold, available, match_all, posted

pytestmark = pytest.mark.django_db(transaction=True)

DAY = date(2026, 11, 25)


@pytest.fixture
def home(settings):
    settings.PAYOUT_COOLDOWN_HOURS = 0
    return world.world()


def payouts_of(home, *amounts):
    """Return payouts to one customer's destination, all in a file that the bank has."""
    customer = world.customer_with(home, sum(amounts) + 100_00)
    target = world.destination(home, customer, IBANS[0])
    made = [
        world.request(home, target, amount, remittance=f"Payout {n}")
        for n, amount in enumerate(amounts)
    ]
    for payout in made:
        payout.refresh_from_db()
    return customer, made, world.submitted(*made)


def debit(payout, **more):
    attempt = world.attempt_of(payout)
    return Entry(
        **{"amount": -attempt.amount_minor, "end_to_end_id": attempt.end_to_end_id, **more}
    )


def credit(payout, amount, code="AC01"):
    return Entry(amount=amount, end_to_end_id=world.attempt_of(payout).end_to_end_id, returned=code)


def bring(home, *entries, opening=0, day=DAY, statement_id="STMT-1"):
    content = camt053(Made(entries=entries, opening=opening, day=day, statement_id=statement_id))
    assert import_file(home.id, content).state == "imported"
    return match_all()


def state_of(payout):
    payout.refresh_from_db()
    return payout.state


def kinds():
    return sorted(Break.objects.exclude(state="resolved").values_list("kind", flat=True))


class TestAPayout:
    def test_is_settled_by_the_line_that_shows_it(self, home):
        _customer, [payout], _batch = payouts_of(home, 30_00)

        assert bring(home, debit(payout)) == (1, 0)

        assert state_of(payout) == "settled"
        assert posted(home.id, "bank:") == -30_00
        assert posted(home.id, "payouts:in_transit:EUR") == 0
        [leg] = MatchLeg.objects.all()
        assert (leg.target_kind, leg.target_id) == ("payout_attempt", world.attempt_of(payout).id)
        assert_books_hold()

    def test_of_another_amount_stays_in_transit(self, home):
        _customer, [payout], _batch = payouts_of(home, 30_00)

        assert bring(home, debit(payout, amount=-29_00)) == (0, 1)

        assert state_of(payout) == "submitted"
        assert posted(home.id, "suspense:out:EUR") == 29_00
        assert kinds() == ["amount_differs"]
        assert_books_hold()

    def test_booked_twice_is_settled_once(self, home):
        _customer, [payout], _batch = payouts_of(home, 30_00)

        assert bring(home, debit(payout), debit(payout)) == (1, 1)

        assert state_of(payout) == "settled"
        assert kinds() == ["duplicate_at_bank"]
        assert posted(home.id, "suspense:out:EUR") == 30_00
        assert_books_hold()

    def test_that_comes_back_is_available_again_once(self, home):
        customer, [payout], _batch = payouts_of(home, 30_00)
        bring(home, debit(payout))
        before = available(customer)

        result = bring(
            home, credit(payout, 30_00), opening=-30_00, day=date(2026, 11, 26), statement_id="S2"
        )

        assert result == (1, 0)
        assert state_of(payout) == "returned"
        assert available(customer) == before + 30_00
        [found] = Break.objects.filter(kind="returned_after_match")
        assert found.state == "resolved"
        assert_books_hold()

    def test_that_comes_back_twice_is_given_back_once(self, home):
        customer, [payout], _batch = payouts_of(home, 30_00)
        bring(home, debit(payout))
        before = available(customer)
        twice = [credit(payout, 30_00), credit(payout, 30_00)]

        bring(home, *twice, opening=-30_00, day=date(2026, 11, 26), statement_id="S2")

        assert available(customer) == before + 30_00
        assert posted(home.id, "suspense:in:EUR") == 30_00
        assert "duplicate_at_bank" in kinds()
        assert_books_hold()

    def test_and_its_return_on_one_statement_are_both_taken(self, home):
        customer, [payout], _batch = payouts_of(home, 30_00)
        before = available(customer)

        # The bank lists the credit first: it is parked, and taken once the debit settled.
        assert bring(home, credit(payout, 30_00), debit(payout))[0] >= 1

        assert state_of(payout) == "returned"
        assert available(customer) == before + 30_00
        assert posted(home.id, "suspense:in:EUR") == 0
        assert set(BankLineStatus.objects.values_list("state", flat=True)) == {"matched"}
        assert kinds() == []
        assert_books_hold()


class TestABatch:
    def test_booked_as_one_line_settles_each(self, home):
        _customer, made, batch = payouts_of(home, 30_00, 20_00)
        line = Entry(
            amount=-50_00,
            payment_information_id=batch.payment_information_id,
            message_id=batch.message_id,
            details="",
        )

        assert bring(home, line) == (1, 0)

        assert [state_of(payout) for payout in made] == ["settled", "settled"]
        assert posted(home.id, "bank:") == -50_00
        assert posted(home.id, "suspense:out:EUR") == 0
        assert (Match.objects.count(), MatchLeg.objects.count()) == (1, 2)
        assert_books_hold()

    def test_with_its_payments_as_details_settles_each(self, home):
        _customer, made, batch = payouts_of(home, 30_00, 20_00)
        details = "".join(
            f"<TxDtls><Refs><EndToEndId>{attempt.end_to_end_id}</EndToEndId></Refs>"
            f'<Amt Ccy="EUR">{attempt.amount_minor // 100}.00</Amt></TxDtls>'
            for attempt in map(world.attempt_of, made)
        )
        line = Entry(amount=-50_00, message_id=batch.message_id, details=details)

        assert bring(home, line) == (1, 0)

        assert [state_of(payout) for payout in made] == ["settled", "settled"]
        assert Match.objects.count() == 2
        assert_books_hold()


def test_nine_payouts_and_a_stray_line(home):
    amounts = [10_00 + n for n in range(9)]
    _customer, made, batch = payouts_of(home, *amounts)
    rejected, odd, double, _never = made[5], made[6], made[7], made[8]
    rejection = {world.attempt_of(rejected).end_to_end_id: "RJCT/AC01"}
    world.apply(home, world.report(batch, "PART", **rejection))

    entries = [debit(payout) for payout in made[:5]]
    entries += [debit(odd, amount=-1_00), debit(double), debit(double)]
    entries += [Entry(amount=-7_77, end_to_end_id="STRAY")]
    assert bring(home, *entries) == (6, 3)

    assert [state_of(payout) for payout in made] == [
        *["settled"] * 5,
        "rejected",
        "submitted",
        "settled",
        "submitted",
    ]
    assert kinds() == ["amount_differs", "bank_only", "duplicate_at_bank"]
    assert_books_hold()
    opening = -sum(amounts[:5]) - 1_00 - 2 * amounts[7] - 7_77
    bring(
        home,
        credit(made[0], amounts[0]),
        opening=opening,
        day=date(2026, 11, 26),
        statement_id="S2",
    )
    assert state_of(made[0]) == "returned"
    assert payouts.find_attempt(
        organization_id=home.id, end_to_end_id=world.attempt_of(made[0]).end_to_end_id
    )
    assert Break.objects.filter(kind="returned_after_match").count() == 1
    assert_books_hold()
