"""The pure core: transfers, time, and properties that hold for any commands."""

from copy import deepcopy
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.ids import encode_id
from apps.ledger.rules import (
    LaterBalances,
    Leg,
    PlaceHold,
    PostEntry,
    State,
    apply,
    apply_together,
)
from tests.ledger.pure import BANK, NOW, A, B, C, capture, codes, fresh, hold, move, state, up_to


class TestTransfer:
    def test_moves_the_amount_and_counts_the_version(self):
        after, [outcome] = apply(state(a=100), [move(A, B, 30)])

        assert outcome.status == "posted"
        assert (after.balances[A].available, after.balances[B].available) == (70, 30)
        assert [(li.amount_minor, li.account_version, li.balance_after_minor)
                for li in outcome.lines] == [(30, 1, 70), (-30, 1, 30)]  # fmt: skip

    def test_to_the_last_unit_and_not_one_more(self):
        _, outcomes = apply(state(a=100), [move(A, B, 100), move(A, B, 1)])

        assert codes(outcomes) == ["posted", "insufficient_funds"]
        assert outcomes[1].refusal.details["available"] == 0

    def test_sees_the_effect_of_the_ones_before(self):
        _, outcomes = apply(state(a=100), [move(B, C, 50), move(A, B, 50), move(B, C, 50)])

        assert codes(outcomes) == ["insufficient_funds", "posted", "posted"]

    def test_reaches_a_credit_line_and_not_beyond(self):
        start = state()
        start.balances[A].min_available_minor = -1000

        assert codes(apply(start, [move(A, B, 1000)])[1]) == ["posted"]
        assert codes(apply(start, [move(A, B, 1001)])[1]) == ["insufficient_funds"]

    def test_money_in_reaches_an_account_below_its_floor(self):
        start = state()
        start.balances[A].posted_debits = 50

        entry = PostEntry(
            id=fresh(), legs=(Leg(BANK, 11), Leg(A, -10), Leg(B, -1)), currency="EUR", kind="x"
        )

        assert codes(apply(start, [move(BANK, A, 10), entry])[1]) == ["posted", "posted"]

    def test_a_till_pays_by_credit_to_its_last_unit_and_takes_whatever_comes_by_debit(self):
        start = state(a=100)
        start.balances[BANK].min_available_minor = 40

        _, outcomes = apply(start, [move(A, BANK, 60), move(A, BANK, 1), move(BANK, B, 1000)])

        assert codes(outcomes) == ["posted", "insufficient_funds", "posted"]
        assert outcomes[1].refusal.details["ledger_account"] == encode_id("la", BANK)

    def test_up_to_an_amount_moves_what_a_till_can_give(self):
        start = state(a=100)
        start.balances[BANK].min_available_minor = 40

        _, [outcome] = apply(start, [up_to(A, BANK, 100)])

        assert [line.amount_minor for line in outcome.lines] == [60, -60]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"status": "frozen"}, "ledger_account_frozen"),
            ({"status": "closed"}, "ledger_account_closed"),
            ({"currency": "USD"}, "currency_mismatch"),
        ],
    )
    def test_is_refused_by_the_account(self, change, code):
        start = state(a=100)
        for name, value in change.items():
            setattr(start.balances[B], name, value)

        assert codes(apply(start, [move(A, B, 10)])[1]) == [code]

    def test_from_an_account_to_itself_is_refused(self):
        assert codes(apply(state(a=100), [move(A, A, 10)])[1]) == ["same_ledger_account"]

    def test_of_a_client_takes_no_reference_of_kassas_own_acts(self):
        start = state(a=100)
        start.reach_internal = False
        for id_ in (A, B):
            start.balances[id_].internal = False
        commands = [move(A, B, 1, reference=text) for text in ("payout:pat_1:settle", "payout-1")]

        holds = [hold(1, reference=text) for text in ("payout:po_1:hold", "payout-1")]

        assert codes(apply(start, commands)[1]) == ["reference_reserved", "posted"]
        assert codes(apply(start, holds)[1]) == ["reference_reserved", "held"]

    def test_more_than_the_books_can_count_is_refused(self):
        start = state()
        start.balances[B].posted_credits = 10**18 - 5

        _, outcomes = apply(start, [move(BANK, B, 6), move(BANK, B, 5)])

        assert codes(outcomes) == ["balance_too_large", "posted"]

    def test_what_is_reserved_counts_as_moved_so_a_capture_always_has_room(self):
        """On either side: the debits of whose money it is, and the credits of whom it is for."""
        start = state()
        start.balances[A].min_available_minor = None
        start.balances[A].posted_debits = start.balances[B].posted_credits = 10**18 - 100
        placed = hold(90)

        after, outcomes = apply(
            start, [placed, move(A, C, 11), move(A, C, 10), move(BANK, B, 11), move(BANK, B, 10)]
        )
        _, captured = apply(after, [capture(placed.id)])

        assert codes(outcomes) == [
            "held", "balance_too_large", "posted", "balance_too_large", "posted",
        ]  # fmt: skip
        assert codes(captured) == ["posted"]

    def test_happens_after_what_a_clock_a_little_ahead_has_posted_and_no_later(self):
        start, second = state(a=100), timedelta(seconds=1)
        start.balances[A].latest_effective_at = NOW + 4 * second
        # Beyond what clocks differ by, whatever the other account has seen.
        start.balances[B].latest_effective_at = NOW + 8 * second

        _, [outcome] = apply(start, [move(A, B, 1)])

        assert outcome.effective_at == NOW + 4 * second

    def test_to_an_account_nobody_has_is_refused(self):
        assert codes(apply(state(a=100), [move(A, fresh(), 10)])[1]) == ["unknown_ledger_account"]

    def test_of_a_client_does_not_reach_internal_accounts(self):
        start = state(a=100)
        start.reach_internal = False
        start.balances[A].internal = False

        assert codes(apply(start, [move(A, BANK, 10)])[1]) == ["ledger_account_reserved"]

    @pytest.mark.parametrize("legs", [(), (Leg(A, 5), Leg(B, -4)), (Leg(A, 0), Leg(B, 0))])
    def test_that_is_no_entry_is_a_fault(self, legs):
        with pytest.raises(ValueError, match="sums to 0"):
            PostEntry(id=fresh(), legs=legs, currency="EUR", kind="x")


class TestClosedMonth:
    def test_is_closed_from_its_first_instant_to_its_last(self):
        start, tick = state(a=100), timedelta(microseconds=1)
        begins, ends = NOW - timedelta(days=40), NOW - timedelta(days=10)
        start.closed = [(begins, ends, "2026-09")]
        instants = [begins - tick, begins, ends - tick, ends]

        _, outcomes = apply(start, [move(A, B, 1, effective_at=at) for at in instants])

        assert codes(outcomes) == ["posted", "period_closed", "period_closed", "posted"]
        assert outcomes[1].refusal.details == {"period": "2026-09"}


class TestBackDated:
    """A's balance was 50, 20 from the second day on, and is 120 since the fourth."""

    DAYS = [NOW - timedelta(days=back) for back in (4, 3, 2, 1)]

    def begun(self) -> State:
        start = state(a=120)
        start.balances[A].latest_effective_at = self.DAYS[3]
        first, second, third, last = self.DAYS
        # What is asked for on the third day meets what stood since the second.
        start.later[A] = LaterBalances([first, third, last], [20, 20, 120], [second, second, last])
        return start

    @pytest.mark.parametrize(("day", "since"), [(0, 1), (2, 2)])
    def test_is_refused_by_the_lowest_from_then_on_naming_when_it_would_be(self, day, since):
        _, [outcome] = apply(self.begun(), [move(A, B, 21, effective_at=self.DAYS[day])])

        assert outcome.refusal.code == "later_balance_below_floor"
        shown = self.DAYS[since].isoformat().replace("+00:00", "Z")
        assert (outcome.refusal.details["balance"], outcome.refusal.details["balance_at"]) == (
            -1,
            shown,
        )

    def test_goes_to_the_last_unit_and_counts_for_the_next(self):
        commands = [move(A, B, amount, effective_at=self.DAYS[2]) for amount in (20, 1)]

        after, outcomes = apply(self.begun(), commands)

        assert codes(outcomes) == ["posted", "later_balance_below_floor"]
        assert after.balances[A].available == 100

    def test_up_to_an_amount_moves_what_the_lowest_from_then_on_allows(self):
        commands = [up_to(A, B, 500, effective_at=self.DAYS[2]) for _ in range(2)]

        after, outcomes = apply(self.begun(), commands)

        assert outcomes[0].lines[0].amount_minor == 20
        assert after.balances[A].available == 100
        # Today's balance would have let a hundred go: it is the later one that allows nothing.
        told = outcomes[1].refusal
        assert (told.code, told.details["requested"]) == ("later_balance_below_floor", 100)

    def test_a_capture_is_checked_from_its_day_on_and_needs_no_more_than_its_own_hold(self):
        start = self.begun()
        start.later[A] = LaterBalances(
            [self.DAYS[2], self.DAYS[3], NOW], [20, 120, 120], [self.DAYS[1], self.DAYS[3], NOW]
        )
        whole = hold(120)
        early = capture(whole.id, 21, effective_at=self.DAYS[2])
        late = capture(whole.id, 120, effective_at=self.DAYS[3])

        after, outcomes = apply(start, [whole, early, late])

        assert codes(outcomes) == ["held", "later_balance_below_floor", "posted"]
        assert after.balances[A].available == 0

    def test_what_a_failed_chain_would_have_taken_of_it_is_there_again(self):
        early = {"effective_at": self.DAYS[2]}
        chain = [move(A, B, 20, linked=True, **early), move(A, C, 101)]

        _, outcomes = apply(self.begun(), [*chain, move(A, B, 20, **early)])

        assert codes(outcomes) == ["linked_command_failed", "insufficient_funds", "posted"]

    def test_a_capture_is_checked_on_the_side_that_money_leaves_by_credit(self):
        """A till's: what is captured into a wallet was not in it yet on that day."""
        start = state(a=100)
        till = start.balances[BANK]
        till.min_available_minor, till.latest_effective_at = 0, self.DAYS[3]
        start.later[BANK] = LaterBalances(
            [self.DAYS[2], self.DAYS[3], NOW], [0, 100, 100], [self.DAYS[0], self.DAYS[3], NOW]
        )
        whole = PlaceHold(
            id=fresh(), debit_account_id=A, credit_account_id=BANK, amount_minor=60, currency="EUR"
        )
        early = capture(whole.id, 60, effective_at=self.DAYS[2])
        late = capture(whole.id, 60, effective_at=self.DAYS[3])

        _, outcomes = apply(start, [whole, early, late])

        assert codes(outcomes) == ["held", "later_balance_below_floor", "posted"]

    def test_a_hold_reserves_nothing_that_is_only_there_until_later(self):
        start = self.begun()
        start.later[A] = LaterBalances([NOW], [30], [NOW + timedelta(days=1)])

        _, outcomes = apply(start, [hold(31), hold(30)])

        assert codes(outcomes) == ["later_balance_below_floor", "held"]


class Counted(int):
    """A balance that counts how often something is added to one."""

    added = 0

    def __add__(self, other: int) -> "Counted":
        Counted.added += 1
        return Counted(int(self) + other)


class TestAnActOfMany:
    SIZE = 300

    def begun(self, low: int) -> tuple[State, list[PostEntry]]:
        """A was paid 1 each second; the act takes all of it back, the last of it first."""
        times = [NOW - timedelta(days=9) + timedelta(seconds=n) for n in range(self.SIZE)]
        start = state(a=self.SIZE + low)
        start.later[A] = LaterBalances(
            times, [Counted(n + 1 + low) for n in range(self.SIZE)], list(times)
        )
        return start, [
            PostEntry(
                id=fresh(), legs=(Leg(A, 1), Leg(B, -1)), currency="EUR", kind="reversal",
                effective_at=at,
            )
            for at in reversed(times)
        ]  # fmt: skip

    def test_takes_from_each_later_balance_what_it_has_taken_by_then(self):
        start, entries = self.begun(0)

        after, outcomes = apply_together(start, entries)

        assert codes(outcomes) == ["posted"] * self.SIZE
        assert after.later[A].lows == [0] * self.SIZE
        assert start.later[A].lows == list(range(1, self.SIZE + 1))

    def test_is_refused_by_the_first_of_the_lowest_with_what_it_has_taken_by_then(self):
        start, entries = self.begun(0)
        start.later[A].lows[120:] = range(120, self.SIZE)

        after, outcomes = apply_together(start, entries)

        assert codes(outcomes) == ["later_balance_below_floor"] * self.SIZE
        told = outcomes[0].refusal.details
        assert (told["balance"], told["requested"]) == (-1, 121)
        assert after is start

    def test_adds_to_each_later_balance_once(self):
        start, entries = self.begun(0)
        Counted.added = 0

        apply_together(start, entries)

        assert Counted.added == self.SIZE


accounts = st.sampled_from([A, B, C, BANK])
transfers = st.builds(
    move, accounts, accounts, st.integers(1, 120), linked=st.booleans(),
    reference=st.sampled_from([None, None, "r-1", "r-2"]),
)  # fmt: skip
START = state(a=100, b=50)


@given(st.lists(transfers, max_size=30))
def test_no_command_makes_or_loses_money_or_breaks_a_floor(commands):
    before = deepcopy(START)

    after, outcomes = apply(START, commands)

    assert before == START
    assert len(outcomes) == len(commands)
    balances = after.balances.values()
    assert sum(b.posted_debits for b in balances) == sum(b.posted_credits for b in balances)
    assert all(b.available >= 0 for b in balances if b.min_available_minor == 0)
    assert sum(b.version for b in balances) == sum(len(o.lines) for o in outcomes)


@given(st.lists(transfers.filter(lambda t: not t.linked), max_size=20))
def test_one_by_one_equals_all_at_once(commands):
    current, singly = START, []
    for command in commands:
        current, [outcome] = apply(current, [command])
        singly.append(outcome)

    after, at_once = apply(START, commands)

    assert after.balances == current.balances
    assert codes(at_once) == codes(singly)
