from datetime import timedelta
from functools import partial

import pytest

from apps.accounts.models import Customer
from apps.banking.formats.reading import read_bank_file
from apps.core.ids import new_id
from apps.core.models import OutboxEvent
from apps.ledger.models import JournalEntry
from apps.payouts import operations
from apps.payouts.models import BankFact, PayoutAttempt
from apps.payouts.operations import SendOutcome
from apps.payouts.rules import LineOutcome
from apps.risk.models import Fact
from tests.payouts import factories
from tests.payouts.factories import CUT_OFF, JOB, available, line, request
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def payout(home, target):
    return request(home, target, 100_00)


def two(home, customer, target):
    other = factories.destination(home, customer, factories.IBANS[1])
    return request(home, target, 100_00), request(home, other, 200_00)


def ids(*payouts):
    return [factories.attempt_of(payout).end_to_end_id for payout in payouts]


def refresh(*rows):
    for row in rows:
        row.refresh_from_db()
    return [row.state for row in rows]


def set_fee(home, fee_minor=25):
    operations.set_price(
        organization_id=home.id,
        rail="sct",
        currency="EUR",
        fee_minor=fee_minor,
        idempotency_key="price",
        actor=JOB,
        now=factories.NOW - timedelta(days=1),
    )


def facts():
    rows = BankFact.objects.order_by("id")
    return [(row.kind, row.bank_status, row.state, row.desk) for row in rows]


class TestStatusReport:
    @pytest.mark.parametrize("status", ["ACTC", "ACCP", "ACSP", "PDNG", "RCVD"])
    def test_a_taken_file_is_acknowledged_and_nothing_moves(self, home, customer, payout, status):
        batch = factories.submitted(payout)

        factories.apply(home, factories.report(batch, status))

        assert refresh(batch, payout) == ["acknowledged", "submitted"]
        assert available(home, customer) == 4_900_00

    def test_settled_according_to_the_report_is_not_settled(self, home, payout):
        batch = factories.submitted(payout)

        factories.apply(home, factories.report(batch, "ACSC"))

        assert refresh(batch, payout) == ["accepted", "submitted"]

    def test_one_rejected_of_two_gives_amount_and_fee_back(self, home, customer, target):
        set_fee(home)
        one, other = two(home, customer, target)
        batch = factories.submitted(one, other)
        first, _ = ids(one, other)

        result = factories.apply(home, factories.report(batch, "PART", **{first: "RJCT/BE04"}))

        assert result.rejected == 1
        assert refresh(batch, one, other) == ["partly_accepted", "rejected", "submitted"]
        assert (one.failure_code, one.bank_code) == ("bank_rejected", "BE04")
        assert available(home, customer) == 5_000_00 - 200_25
        assert factories.balances(home)["fees:payouts"] == 25
        assert Fact.objects.get(subject_id=one.id).state == "canceled"

    def test_a_rejected_group_releases_all(self, home, customer, target):
        one, other = two(home, customer, target)
        batch = factories.submitted(one, other)

        factories.apply(home, factories.report(batch, "RJCT", code="NARR"))

        assert refresh(batch, one, other) == ["rejected"] * 3
        assert available(home, customer) == 5_000_00
        assert "payouts:in_transit" not in factories.balances(home)
        assert [desk for *_, desk in facts()] == ["nobody", "staff", "staff"]

    def test_the_same_report_again_changes_nothing(self, home, customer, payout):
        batch = factories.submitted(payout)
        answer, file_id = factories.report(batch, "RJCT", code="BE04"), new_id()

        for _ in range(2):
            factories.apply(home, answer, file_id=file_id)
        factories.apply(home, answer)

        assert available(home, customer) == 5_000_00
        assert JournalEntry.objects.filter(kind="payout.reject").count() == 1
        told = OutboxEvent.objects.filter(type="payout.rejected")
        assert told.count() == 1

    def test_reports_in_parallel_reject_once(self, home, customer, payout):
        batch = factories.submitted(payout)
        answer = factories.report(batch, "RJCT", code="BE04")

        race(*(partial(factories.apply, home, answer) for _ in range(4)))

        assert available(home, customer) == 5_000_00
        assert refresh(payout) == ["rejected"]

    @pytest.mark.parametrize("code", ["DU01", "AM05"])
    def test_a_duplicate_releases_nothing(self, home, customer, target, code):
        one, other = two(home, customer, target)
        batch = factories.submitted(one, other)

        factories.apply(home, factories.report(batch, "RJCT", code=code))

        assert refresh(batch, one, other) == ["unknown"] * 3
        assert available(home, customer) == 5_000_00 - 300_00
        assert [desk for *_, desk in facts()] == ["nobody", "staff", "staff"]

    def test_our_own_fault_keeps_the_money_reserved(self, home, customer, payout):
        batch = factories.submitted(payout)
        first_hold = payout.hold_id

        factories.apply(home, factories.report(batch, "RJCT", code="AM04"))

        assert refresh(payout) == ["held"]
        assert payout.hold_reasons == ["bank_rejected"]
        assert payout.hold_id != first_hold
        assert available(home, customer) == 4_900_00
        assert factories.balances(home)["customers:available"] == 5_000_00

    @pytest.mark.parametrize("code", ["AC04", "AM04"])
    def test_an_account_that_takes_nothing_leaves_the_money_in_suspense(
        self, home, customer, target, code
    ):
        one = request(home, target, 100_00)
        batch = factories.submitted(one)
        factories.set_status(home, customer, "frozen")

        said = {factories.attempt_of(one).end_to_end_id: f"RJCT/{code}"}
        factories.apply(home, factories.report(batch, "PART", **said))

        one.refresh_from_db()
        assert one.state == "rejected"
        found = factories.balances(home)
        assert found["suspense:in"] == 100_00 + one.fee_minor
        assert found.get("payouts:in_transit", 0) == 0
        factories.check_invariants()

    def test_a_held_one_is_sent_again_once_released(self, home, customer, payout):
        batch = factories.submitted(payout)
        factories.apply(home, factories.report(batch, "RJCT", code="AM04"))
        operations.release_payout(
            organization_id=home.id,
            payout_id=payout.id,
            hold_reason="bank_rejected",
            reason="funded",
            idempotency_key="r",
            actor=JOB,
            now=factories.NOW,
        )

        refresh(payout)
        second = factories.submitted(payout)

        assert refresh(payout) == ["submitted"]
        assert second.message_id != batch.message_id
        assert PayoutAttempt.objects.filter(payout_id=payout.id).count() == 2

    @pytest.mark.parametrize(
        ("code", "state"),
        [("AC04", "disabled"), ("AC06", "suspended"), ("BE04", "verified"), ("XX99", "verified")],
    )
    def test_the_code_decides_what_becomes_of_the_destination(
        self, home, target, payout, code, state
    ):
        batch = factories.submitted(payout)

        factories.apply(home, factories.report(batch, "RJCT", code=code))

        assert refresh(target) == [state]

    def test_a_closed_account_takes_waiting_payouts_along(self, home, customer, target, payout):
        batch = factories.submitted(payout)
        waiting = request(home, target, 300_00)

        factories.apply(home, factories.report(batch, "RJCT", code="AC04"))

        assert refresh(waiting) == ["canceled"]
        assert waiting.failure_code == "destination_changed"
        assert available(home, customer) == 5_000_00

    def test_a_second_time_unspecified_suspends(self, home, target, payout):
        factories.apply(home, factories.report(factories.submitted(payout), "RJCT", code="MS03"))
        assert refresh(target) == ["verified"]
        again = request(home, target, 100_00, remittance="again")

        factories.apply(home, factories.report(factories.submitted(again), "RJCT", code="MS03"))

        assert refresh(target) == ["suspended"]

    def test_a_rejection_of_a_settled_one_moves_nothing(self, home, customer, payout):
        batch = factories.submitted(payout)
        factories.settle(home, line(home, payout))

        factories.apply(home, factories.report(batch, "RJCT", code="AC04"))

        assert refresh(payout) == ["settled"]
        assert ("status", "RJCT", "superseded", "staff") in facts()

    @pytest.mark.parametrize("late", ["ACTC", "ACSC"])
    def test_a_late_weaker_word_changes_nothing(self, home, payout, late):
        batch = factories.submitted(payout)
        factories.apply(home, factories.report(batch, "RJCT", code="NARR"))

        factories.apply(home, factories.report(batch, late))

        assert refresh(batch, payout) == ["rejected", "rejected"]

    def test_an_answer_proves_that_the_bank_has_the_file(self, home, customer, payout):
        batch = factories.export(factories.freeze(payout))
        batch = factories.send(batch, SendOutcome.UNKNOWN)

        factories.apply(home, factories.report(batch, "ACTC"))

        assert refresh(batch, payout) == ["acknowledged", "submitted"]

    def test_a_file_that_nobody_knows_is_for_staff(self, home, payout):
        batch = factories.submitted(payout)
        batch.message_id, batch.payment_information_id = "nobody", "nobody-1"

        result = factories.apply(home, factories.report(batch, "RJCT"))

        assert result.batch_id is None
        assert facts() == [("status", "RJCT", "unmatched", "staff")]
        assert refresh(payout) == ["submitted"]

    def test_a_transaction_that_nobody_knows_is_for_staff(self, home, payout):
        batch = factories.submitted(payout)

        result = factories.apply(home, factories.report(batch, "PART", stranger="RJCT/AC04"))

        assert (result.unmatched, result.rejected) == (1, 0)
        assert refresh(payout) == ["submitted"]

    @pytest.mark.bank_files
    @pytest.mark.parametrize(
        ("name", "state"),
        [
            ("nordea-transaction-reject.xml", "rejected"),
            ("nordea-group-reject.xml", "unknown"),
        ],
    )
    def test_real_answers(self, home, customer, target, bank_files, name, state):
        [path] = bank_files.rglob(name)
        real = read_bank_file(path.read_bytes(), name=name)
        one, other = two(home, customer, target)
        batch = factories.submitted(one, other)
        answer = _readdressed(real, batch, ids(one, other))

        factories.apply(home, answer)

        assert refresh(one, other) == [state, state]
        expected = 5_000_00 if state == "rejected" else 4_700_00
        assert available(home, customer) == expected


def _readdressed(real, batch, end_to_end_ids):
    """Return a real report as if it answered this batch: only the ids are ours."""
    fresh = iter(end_to_end_ids)
    payments = [
        type(payment)(
            status=payment.status,
            payment_information_id=batch.payment_information_id,
            reasons=payment.reasons,
            transactions=tuple(
                type(one)(
                    status=one.status,
                    end_to_end_id=next(fresh, "beyond"),
                    instruction_id=None,
                    reasons=one.reasons,
                )
                for one in payment.transactions
            ),
        )
        for payment in real.payments
    ]
    return type(real)(
        version=real.version,
        message_id=real.message_id,
        original_message_id=batch.message_id,
        group_status=real.group_status,
        reasons=real.reasons,
        payments=tuple(payments),
    )


class TestSettle:
    def test_a_debit_settles_what_it_names(self, home, customer, payout):
        batch = factories.submitted(payout)

        result = factories.settle(home, line(home, payout))

        assert result.outcome is LineOutcome.APPLIED
        assert refresh(batch, payout) == ["reconciled", "settled"]
        assert factories.balances(home) == {
            "equity:opening": -5_000_00,
            "customers:available": 4_900_00,
            "bank": -100_00,
        }
        assert Fact.objects.get().state == "done"
        entry = JournalEntry.objects.get(kind="payout.settle")
        assert entry.id == result.entry_ids[0]
        assert entry.reference == f"payout:{factories.attempt_printed(payout)}:settle"

    def test_the_same_line_again_posts_nothing(self, home, payout):
        factories.submitted(payout)
        fact = line(home, payout)
        factories.settle(home, fact)

        assert factories.settle(home, fact).outcome is LineOutcome.ALREADY_APPLIED

        assert JournalEntry.objects.filter(kind="payout.settle").count() == 1

    def test_another_line_for_a_settled_one_is_a_break(self, home, payout):
        factories.submitted(payout)
        factories.settle(home, line(home, payout))

        assert factories.settle(home, line(home, payout)).outcome is LineOutcome.SUPERSEDED

        assert factories.balances(home)["bank"] == -100_00

    @pytest.mark.parametrize(
        "changes",
        [
            {"amount_minor": 99_99},
            {"currency": "CHF"},
            {"end_to_end_id": "nobody"},
            {"bank_account_id": new_id()},
            {"end_to_end_id": None},
        ],
    )
    def test_what_does_not_fit_is_not_matched(self, home, payout, changes):
        factories.submitted(payout)

        result = factories.settle(home, line(home, payout, **changes))

        assert result.outcome is LineOutcome.UNMATCHED
        assert refresh(payout) == ["submitted"]
        assert facts() == [("settlement", "", "unmatched", "staff")]

    def test_an_unknown_one_is_captured_and_settled_together(self, home, customer, payout):
        batch = factories.export(factories.freeze(payout))
        batch = factories.send(batch, SendOutcome.UNKNOWN)

        result = factories.settle(home, line(home, payout))

        assert result.outcome is LineOutcome.APPLIED
        assert refresh(batch, payout) == ["reconciled", "settled"]
        assert available(home, customer) == 4_900_00

    def test_one_line_for_the_whole_batch_settles_all(self, home, customer, target):
        one, other = two(home, customer, target)
        batch = factories.submitted(one, other)
        whole = line(
            home,
            one,
            end_to_end_id=None,
            payment_information_id=batch.payment_information_id,
            amount_minor=300_00,
        )

        result = factories.settle(home, whole)

        assert len(result.attempt_ids) == len(result.entry_ids) == 2
        assert refresh(batch, one, other) == ["reconciled", "settled", "settled"]
        assert factories.balances(home)["bank"] == -300_00

    def test_a_whole_line_leaves_out_what_was_rejected(self, home, customer, target):
        one, other = two(home, customer, target)
        batch = factories.submitted(one, other)
        factories.apply(home, factories.report(batch, "PART", **{ids(one)[0]: "RJCT/NARR"}))
        whole = line(
            home, other, end_to_end_id=None, message_id=batch.message_id, amount_minor=200_00
        )

        factories.settle(home, whole)

        assert refresh(batch, one, other) == ["reconciled", "rejected", "settled"]

    def test_statement_and_janitor_together_settle_once(self, home, customer, payout):
        batch = factories.export(factories.freeze(payout))
        batch = factories.send(batch, SendOutcome.UNKNOWN)
        fact = line(home, payout)

        race(
            partial(factories.settle, home, fact),
            partial(
                operations.record_send,
                organization_id=home.id,
                batch_id=batch.id,
                outcome=SendOutcome.ACCEPTED,
                actor=JOB,
                now=CUT_OFF,
            ),
            partial(factories.apply, home, factories.report(batch, "ACTC")),
        )

        assert refresh(payout) == ["settled"]
        assert available(home, customer) == 4_900_00
        assert factories.balances(home)["bank"] == -100_00

    def test_settlement_against_rejection_has_one_winner(self, home, customer, payout):
        batch = factories.submitted(payout)

        race(
            partial(factories.settle, home, line(home, payout)),
            partial(factories.apply, home, factories.report(batch, "RJCT", code="NARR")),
        )

        [state] = refresh(payout)
        expected = {"settled": 4_900_00, "rejected": 5_000_00}
        assert available(home, customer) == expected[state]


class TestReturn:
    def test_a_credit_gives_the_amount_back_and_keeps_the_fee(self, home, customer, target):
        set_fee(home)
        payout = factories.settled(home, request(home, target, 100_00))

        result = factories.give_back(home, line(home, payout, reason_code="BE04"))

        assert result.outcome is LineOutcome.APPLIED
        assert refresh(payout) == ["returned"]
        assert (payout.returned_minor, payout.bank_code) == (100_00, "BE04")
        assert available(home, customer) == 5_000_00 - 25
        fact = Fact.objects.get()
        assert (fact.state, fact.returned_minor) == ("returned", 100_00)

    def test_twice_is_one_credit_one_event_and_a_disabled_destination(
        self, home, customer, target, payout
    ):
        factories.settled(home, payout)
        fact = line(home, payout, reason_code="AC01")
        factories.give_back(home, fact)

        again = factories.give_back(home, fact)
        other = factories.give_back(home, line(home, payout, reason_code="AC01"))

        assert again.outcome is LineOutcome.ALREADY_APPLIED
        assert other.outcome is LineOutcome.SUPERSEDED
        assert refresh(target) == ["disabled"]
        assert available(home, customer) == 5_000_00
        assert OutboxEvent.objects.filter(type="payout.returned").count() == 1

    def test_less_by_a_little_shows_amount_and_charge(self, home, customer, payout):
        factories.settled(home, payout)

        factories.give_back(home, line(home, payout, amount_minor=99_50, reason_code="BE04"))

        assert available(home, customer) == 4_999_50
        assert factories.balances(home) == {
            "equity:opening": -5_000_00,
            "customers:available": 4_999_50,
            "bank": -50,
        }
        assert JournalEntry.objects.filter(kind="payout.return_fee").count() == 1

    @pytest.mark.parametrize(
        ("came", "credited", "suspense"), [(60_00, 60_00, 0), (130_00, 100_00, 30_00)]
    )
    def test_less_by_much_or_more_than_went(self, home, customer, payout, came, credited, suspense):
        factories.settled(home, payout)

        factories.give_back(home, line(home, payout, amount_minor=came, reason_code="BE04"))

        assert available(home, customer) == 4_900_00 + credited
        assert factories.balances(home).get("suspense:in", 0) == suspense

    @pytest.mark.parametrize("code", ["NARR", "MD07", None])
    def test_codes_that_say_nothing_go_to_suspense(self, home, customer, payout, code):
        factories.settled(home, payout)

        factories.give_back(home, line(home, payout, reason_code=code))

        assert refresh(payout) == ["returned"]
        assert available(home, customer) == 4_900_00
        assert factories.balances(home)["suspense:in"] == 100_00
        assert facts()[-1][3] in {"staff", "compliance"}

    def test_to_an_account_that_takes_nothing_goes_to_suspense(self, home, customer, payout):
        factories.settled(home, payout)
        factories.set_status(home, customer, "frozen")

        factories.give_back(home, line(home, payout, reason_code="BE04"))

        assert factories.balances(home)["suspense:in"] == 100_00

    def test_a_frozen_customers_goes_to_suspense(self, home, customer, payout):
        factories.settled(home, payout)
        Customer.objects.filter(id=customer.id).update(
            state="frozen", frozen_at=CUT_OFF, frozen_by="staff:x"
        )

        factories.give_back(home, line(home, payout, reason_code="BE04"))

        assert factories.balances(home)["suspense:in"] == 100_00

    def test_before_its_settlement_it_is_parked_and_fits_later(self, home, customer, payout):
        factories.submitted(payout)
        suspense = factories.suspense(home)
        fact = line(home, payout, reason_code="BE04")

        parked = factories.give_back(home, fact)
        factories.to_suspense(home, suspense, 100_00)
        factories.settle(home, line(home, payout))
        later = factories.give_back(
            home, line(home, payout, reason_code="BE04", money_account_id=suspense,
                       bank_line_id=fact.bank_line_id)
        )  # fmt: skip

        assert (parked.outcome, later.outcome) == (LineOutcome.PARKED, LineOutcome.APPLIED)
        assert available(home, customer) == 5_000_00
        assert "suspense:in" not in factories.balances(home)
        assert [fact for fact in facts() if fact[0] == "return"] == [
            ("return", "", "applied", "nobody")
        ]

    @pytest.mark.parametrize(
        "changes",
        [
            {"end_to_end_id": "nobody"},
            {"end_to_end_id": None},
            {"booked_at": CUT_OFF - timedelta(days=1)},
        ],
    )
    def test_what_is_not_ours_or_too_old_is_not_matched(self, home, payout, changes):
        factories.settled(home, payout)

        result = factories.give_back(home, line(home, payout, reason_code="AC01", **changes))

        assert result.outcome is LineOutcome.UNMATCHED
        assert refresh(payout) == ["settled"]

    def test_in_parallel_credits_once(self, home, customer, payout):
        factories.settled(home, payout)
        fact = line(home, payout, reason_code="BE04")

        race(*(partial(factories.give_back, home, fact) for _ in range(4)))

        assert available(home, customer) == 5_000_00

    def test_a_return_code_suspends(self, home, target, payout):
        factories.settled(home, payout)

        factories.give_back(home, line(home, payout, reason_code="R07"))

        assert refresh(target) == ["suspended"]
