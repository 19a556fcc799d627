"""Bank lines that are payouts of ours, through the statement (reconciliation.md, section 9)."""

from datetime import UTC, date, datetime
from uuid import UUID

import pytest
from django.db import OperationalError, connection

from apps.banking.models import BankLineStatus, LineQueue
from apps.core import working
from apps.core.errors import InvariantBroken
from apps.ledger import queries as ledger
from apps.payouts import operations as settling
from apps.payouts import queries as payouts
from apps.payouts.models import Destination
from apps.reconciliation.models import Break, Match, MatchLeg
from apps.reconciliation.operations import _matching
from tests.banking.factories import import_file
from tests.banking.statements import Entry, Made, camt053
from tests.ledger.factories import close_month
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


class TestALineOfAClosedMonth:
    def test_settles_and_returns_a_payout_in_the_next(self, home):
        customer, [payout], _batch = payouts_of(home, 30_00)
        before = available(customer)
        close_month(home.id, date(2026, 11, 1), now=datetime(2026, 12, 2, tzinfo=UTC))

        assert bring(home, debit(payout)) == (1, 0)
        assert state_of(payout) == "settled"
        second = bring(
            home, credit(payout, 30_00), opening=-30_00, day=date(2026, 11, 26), statement_id="S2"
        )

        assert second == (1, 0)
        assert available(customer) == before + 30_00
        attempt = world.attempt_of(payout)
        for entry_id, day in ((attempt.settle_entry_id, 24), (attempt.return_entry_id, 25)):
            entry = ledger.get_entry(organization_id=home.id, entry_id=entry_id)
            assert entry.effective_at == datetime(2026, 12, 1, tzinfo=UTC)
            kept = f"2026-11-{day}T23:00:00+00:00"
            assert entry.metadata["original_effective_at"] == kept
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


def details_of(*parts):
    """Return the transactions of a lump: amount, end-to-end id, and what else each one says."""
    return "".join(
        f"<TxDtls><Refs><EndToEndId>{end_to_end_id or 'NOTPROVIDED'}</EndToEndId></Refs>"
        f'<Amt Ccy="EUR">{amount // 100}.{amount % 100:02d}</Amt>{more}</TxDtls>'
        for amount, end_to_end_id, more in parts
    )


RETURNED = "<RtrInf><Rsn><Cd>BE04</Cd></Rsn></RtrInf>"


class TestALumpOfReturns:
    def test_whose_one_part_came_too_early_is_taken_once_that_settled(self, home):
        customer, [settled, early], _batch = payouts_of(home, 30_00, 20_00)
        before = available(customer)
        ids = [world.attempt_of(payout).end_to_end_id for payout in (settled, early)]
        lump = Entry(
            amount=50_00,
            details=details_of((30_00, ids[0], RETURNED), (20_00, ids[1], RETURNED)),
        )
        bring(home, debit(settled), lump)
        assert (state_of(settled), state_of(early)) == ("returned", "submitted")

        bring(home, debit(early), opening=20_00, day=date(2026, 11, 26), statement_id="S2")

        assert state_of(early) == "returned"
        assert available(customer) == before + 50_00
        assert set(BankLineStatus.objects.values_list("state", flat=True)) == {"matched"}
        assert kinds() == []
        assert posted(home.id, "suspense:in:EUR") == 0
        assert_books_hold()

    def test_with_a_part_of_nobody_waits_for_nothing_more(self, home):
        _customer, [payout], _batch = payouts_of(home, 30_00)
        end_to_end_id = world.attempt_of(payout).end_to_end_id
        lump = Entry(
            amount=37_00, details=details_of((30_00, end_to_end_id, RETURNED), (7_00, "", ""))
        )
        bring(home, lump, debit(payout))

        assert state_of(payout) == "returned"
        assert kinds() == ["bank_only"]
        status = BankLineStatus.objects.get(state="in_suspense")
        assert status.reason != "parked"
        assert posted(home.id, "suspense:in:EUR") == 7_00
        assert_books_hold()


class TestAnAccountThatTakesNothing:
    def test_has_its_return_in_suspense_and_holds_up_nobody(self, home):
        customer, [payout, other], _batch = payouts_of(home, 30_00, 20_00)
        bring(home, debit(payout))
        world.set_status(home, customer, "frozen")

        result = bring(
            home,
            credit(payout, 30_00),
            debit(other),
            opening=-30_00,
            day=date(2026, 11, 26),
            statement_id="S2",
        )

        assert result == (2, 0)
        assert (state_of(payout), state_of(other)) == ("returned", "settled")
        assert posted(home.id, "suspense:in:EUR") == 30_00
        assert_books_hold()


class TestALineThatCannotBeTaken:
    def test_goes_to_suspense_and_holds_up_no_other(self, home, monkeypatch):
        _customer, made, _batch = payouts_of(home, 30_00, 20_00, 10_00)
        poison = world.attempt_of(made[1]).id
        settle = settling.settle_from_bank_line

        def stumbling(*, fact, **more):
            if fact.end_to_end_id == poison.hex:
                raise InvariantBroken
            return settle(fact=fact, **more)

        monkeypatch.setattr(settling, "settle_from_bank_line", stumbling)

        assert bring(home, *map(debit, made)) == (2, 1)

        assert [state_of(payout) for payout in made] == ["settled", "submitted", "settled"]
        assert posted(home.id, "suspense:out:EUR") == 20_00
        assert kinds() == ["bank_only"]
        assert_books_hold()

    @pytest.mark.parametrize("fault", [OperationalError, working.OutOfTime])
    def test_leaves_everything_new_where_no_line_is_to_blame(self, home, monkeypatch, fault):
        _customer, made, _batch = payouts_of(home, 30_00)

        def away(**_more):
            raise fault

        monkeypatch.setattr(settling, "settle_from_bank_line", away)

        assert bring(home, *map(debit, made)) == (0, 0)

        queue = LineQueue.objects.get()
        assert (queue.state, queue.last_error_code) == ("pending", fault.__name__)
        assert set(BankLineStatus.objects.values_list("state", flat=True)) == {"new"}
        assert posted(home.id, "bank:") == 0


class TestParkedLines:
    """Returns that came before their payout was settled: more than fit into one look."""

    @pytest.fixture
    def parked(self, home, monkeypatch):
        """Return five payouts, each with its return parked; a look takes two."""
        monkeypatch.setattr(_matching, "CHUNK", 2)
        customer, made, _batch = payouts_of(home, *[30_00 + n for n in range(5)])
        bring(home, *[credit(one, 30_00 + n) for n, one in enumerate(made)])
        assert parked_lines().count() == 5
        return customer, made

    def settle(self, home, payout, *, opening=150_10, statement_id="S2"):
        day = date(2026, 11, 26)
        return bring(home, debit(payout), opening=opening, day=day, statement_id=statement_id)

    def test_are_reached_behind_any_number_that_never_match(self, home, parked):
        customer, made = parked
        before = available(customer)

        self.settle(home, made[4])

        assert state_of(made[4]) == "returned"
        assert available(customer) == before + 30_04
        assert [state_of(one) for one in made[:4]] == ["submitted"] * 4
        assert_books_hold()

    def test_are_looked_at_once_each_after_new_lines_came(self, home, parked):
        _customer, made = parked
        looked = []

        def watch(execute, sql, params, many, context):
            if sql.lstrip().startswith("UPDATE banking_line_status"):
                looked.append(len(params[1]))
            return execute(sql, params, many, context)

        with connection.execute_wrapper(watch):
            self.settle(home, made[0])

        # The new line; then two, two and one of those that are parked.
        assert looked == [1, 2, 2, 1]
        queue = LineQueue.objects.get()
        assert queue.state == "done"
        assert set(parked_lines().values_list("turn", flat=True)) == {queue.turn}

    def test_are_gone_on_with_in_the_next_turn_where_the_time_is_over(self, home, parked):
        _customer, made = parked
        content = camt053(
            Made(
                entries=(debit(made[4]),),
                opening=150_10,
                day=date(2026, 11, 26),
                statement_id="S2",
            )
        )
        import_file(home.id, content)

        # Each turn ends after one transaction.
        match_all(seconds_max=0)

        assert state_of(made[4]) == "returned"
        assert LineQueue.objects.get().state == "done"

    def test_that_matching_stumbles_over_hold_up_no_other(self, home, parked, monkeypatch):
        _customer, made = parked
        poison = world.attempt_of(made[0]).id
        take = settling.return_from_bank_line

        def stumbling(*, fact, **more):
            if fact.end_to_end_id == poison.hex:
                raise InvariantBroken
            return take(fact=fact, **more)

        monkeypatch.setattr(settling, "return_from_bank_line", stumbling)
        self.settle(home, made[4])

        assert state_of(made[4]) == "returned"
        assert LineQueue.objects.get().state == "done"
        assert parked_lines().count() == 4
        assert_books_hold()

        monkeypatch.setattr(settling, "return_from_bank_line", take)
        self.settle(home, made[0], opening=120_06, statement_id="S3")
        assert state_of(made[0]) == "returned"


def parked_lines():
    return BankLineStatus.objects.filter(state="in_suspense", reason="parked")


def test_a_chunk_locks_all_that_it_needs_before_its_first_posting(home):
    _customer, first, _batch = payouts_of(home, 30_00)
    _customer, second, _batch = payouts_of(home, 20_00)
    bring(home, debit(first[0]))
    target = Destination.objects.get(id=first[0].destination_id)
    waiting = world.request(home, target, 5_00, remittance="waits")
    seen = []

    def watch(execute, sql, params, many, context):
        if "FOR NO KEY UPDATE" in sql:
            ids = {str(one) for one in params if isinstance(one, UUID)}
            seen.append((next(name for name in LOCKED if f'"{name}"' in sql or name in sql), ids))
        return execute(sql, params, many, context)

    entries = [credit(first[0], 30_00), debit(second[0])]
    with connection.execute_wrapper(watch):
        bring(home, *entries, opening=-30_00, day=date(2026, 11, 26), statement_id="S2")

    books = [name for name, _ids in seen].index("ledger_balance")
    ahead = {id_ for name, ids in seen[:books] if name.startswith("payouts_") for id_ in ids}
    after = {id_ for name, ids in seen[books:] if name.startswith("payouts_") for id_ in ids}
    # A destination's waiting payouts are named by it, and by their own ids nowhere else.
    assert after <= ahead
    assert (state_of(first[0]), state_of(second[0])) == ("returned", "settled")
    assert state_of(waiting) == "canceled"


LOCKED = (
    "payouts_batch",
    "payouts_destination",
    "payouts_payout",
    "ledger_balance",
    "reconciliation_break",
    "banking_",
    "",
)


def test_a_line_reads_its_own_attempt_however_many_its_batch_has(home):
    _customer, made, _batch = payouts_of(home, *[1_00 + n for n in range(12)])
    read = []

    def watch(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.startswith("SELECT") and 'FROM "payouts_attempt"' in sql:
            read.append(context["cursor"].rowcount)
        return result

    with connection.execute_wrapper(watch):
        bring(home, debit(made[0]))

    assert state_of(made[0]) == "settled"
    assert max(read) == 1
