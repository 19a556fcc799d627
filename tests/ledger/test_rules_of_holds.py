"""The pure core: holds, and that pending is what they reserve."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ledger.rules import (
    ExpireHold,
    HoldStatus,
    PlaceHold,
    VoidHold,
    apply,
)
from tests.ledger.pure import BANK, NOW, A, B, C, capture, codes, fresh, hold, move, state


class TestHold:
    def test_reserves_and_pending_in_is_not_spendable(self):
        after, outcomes = apply(state(a=5000), [hold(1000) for _ in range(6)])

        assert codes(outcomes) == ["held"] * 5 + ["insufficient_funds"]
        assert (after.balances[A].available, after.balances[B].available) == (0, 0)
        assert after.balances[B].pending_in == 5000

    def test_what_it_reserves_is_left_out_of_what_a_posting_says_is_available(self):
        """Of money that leaves by debit, and of a till's, which leaves by credit."""
        start, _ = apply(state(a=100), [hold(30)])
        out = PlaceHold(
            id=fresh(), debit_account_id=C, credit_account_id=BANK, amount_minor=7, currency="EUR"
        )
        start.balances[C].min_available_minor = None
        start, _ = apply(start, [out])

        _, [outcome] = apply(start, [move(A, BANK, 10)])

        told = [(line.posted, line.available) for line in outcome.balances]
        assert told == [(90, 60), (90, 83)]
        _, [into] = apply(start, [move(A, B, 10)])
        assert [(line.posted, line.available) for line in into.balances] == [(90, 60), (10, 10)]

    def test_a_capture_posts_its_part_and_releases_the_rest_once(self):
        placed = hold(15)

        after, outcomes = apply(
            state(a=15), [placed, capture(placed.id, 13), capture(placed.id), VoidHold(
                hold_id=placed.id)]
        )  # fmt: skip

        assert codes(outcomes) == [
            "held", "posted", "hold_already_captured", "hold_already_captured",
        ]  # fmt: skip
        assert after.balances[A].available == 2
        assert (after.balances[A].pending_out, after.balances[B].pending_in) == (0, 0)
        assert after.balances[B].posted == 13

    def test_of_a_chain_that_is_undone_gives_its_reference_back(self):
        chain = [hold(10, reference="r", linked=True), move(A, B, 1000)]

        _, outcomes = apply(state(a=50), [*chain, hold(11, reference="r")])

        assert codes(outcomes) == ["linked_command_failed", "insufficient_funds", "held"]

    def test_more_than_it_reserves_is_not_captured(self):
        placed = hold(10)

        _, outcomes = apply(state(a=50), [placed, capture(placed.id, 11)])

        assert codes(outcomes) == ["held", "capture_exceeds_hold"]

    @pytest.mark.parametrize(
        ("amounts", "told", "left"),
        [
            ([6, 5, 4], ["posted", "capture_exceeds_hold", "posted"], (40, 10)),
            ([6, 0, 4], ["posted", "posted", "hold_already_captured"], (44, 6)),
            ([6, None, 1], ["posted", "posted", "hold_already_captured"], (40, 10)),
        ],
    )
    def test_of_many_captures_is_taken_until_it_is_used_up_or_nothing_is_taken(
        self, amounts, told, left
    ):
        placed = hold(10, multi_capture=True)

        after, outcomes = apply(
            state(a=50), [placed, *(capture(placed.id, amount) for amount in amounts)]
        )

        assert codes(outcomes) == ["held", *told]
        assert after.holds[placed.id].status == "captured"
        assert (after.balances[A].available, after.balances[B].available) == left
        assert (after.balances[A].pending_out, after.balances[B].pending_in) == (0, 0)

    def test_nothing_is_captured_of_one_that_is_not_there_whatever_its_reference_stands_for(self):
        _, outcomes = apply(
            state(a=50), [move(A, B, 1, reference="r"), capture(fresh(), 1, reference="r")]
        )

        assert codes(outcomes) == ["posted", "hold_not_found"]

    def test_a_capture_of_nothing_releases_all_and_posts_nothing(self):
        placed = hold(10)

        after, outcomes = apply(state(a=10), [placed, capture(placed.id, 0)])

        assert outcomes[1].lines == ()
        assert outcomes[1].entry_id is None
        assert after.balances[A].available == 10

    def test_a_void_releases_all_once(self):
        placed = hold(10)

        after, outcomes = apply(
            state(a=10), [placed, VoidHold(hold_id=placed.id), VoidHold(hold_id=placed.id)]
        )

        assert codes(outcomes) == ["held", "voided", "hold_already_voided"]
        assert after.balances[A].available == 10

    def test_the_clock_ends_it_whether_or_not_a_sweeper_ran(self):
        placed = hold(10, expires_at=NOW)
        later = hold(10, expires_at=NOW + timedelta(microseconds=1))

        _, outcomes = apply(state(a=20), [placed, later, capture(placed.id), capture(later.id)])

        assert codes(outcomes) == ["held", "held", "hold_expired", "posted"]

    def test_whose_time_is_not_over_is_ended_by_no_sweeper(self):
        for_ever, later = hold(10), hold(10, expires_at=NOW + timedelta(microseconds=1))
        start, _ = apply(state(a=20), [for_ever, later])

        after, outcomes = apply(start, [ExpireHold(hold_id=one.id) for one in (for_ever, later)])

        assert codes(outcomes) == ["hold_not_expired"] * 2
        assert (after.balances[A].available, after.balances[A].pending_out) == (0, 20)

    def test_one_that_expired_releases_nothing_again(self):
        placed = hold(10)
        start, _ = apply(state(a=20), [placed, hold(10)])
        start.holds[placed.id].status = HoldStatus.EXPIRED

        _, outcomes = apply(start, [VoidHold(hold_id=placed.id), capture(placed.id)])

        assert codes(outcomes) == ["hold_expired", "hold_expired"]

    @pytest.mark.parametrize("frozen", [A, B])
    def test_is_captured_and_given_up_though_an_account_was_frozen_since(self, frozen):
        """Its money was promised before; nothing is promised anew."""
        captured, voided = hold(30), hold(20)
        over = hold(10, expires_at=NOW)
        start, _ = apply(state(a=100), [captured, voided, over])
        start.balances[frozen].status = "frozen"

        after, outcomes = apply(
            start,
            [hold(1), move(A, B, 1), capture(captured.id), VoidHold(hold_id=voided.id),
             ExpireHold(hold_id=over.id)],
        )  # fmt: skip

        assert codes(outcomes) == [
            "ledger_account_frozen", "ledger_account_frozen", "posted", "voided", "expired",
        ]  # fmt: skip
        assert (after.balances[A].available, after.balances[B].available) == (70, 30)
        assert (after.balances[A].pending_out, after.balances[B].pending_in) == (0, 0)

    @pytest.mark.parametrize("own", [A, B])
    def test_of_kassas_own_acts_on_either_side_is_out_of_a_clients_reach(self, own):
        placed = hold(10)
        start, _ = apply(state(a=10), [placed])
        start.reach_internal = False
        for id_ in (A, B):
            start.balances[id_].internal = id_ == own

        after, outcomes = apply(start, [capture(placed.id), VoidHold(hold_id=placed.id)])

        assert codes(outcomes) == ["ledger_account_reserved"] * 2
        assert after.balances == start.balances

    def test_no_capture_is_negative(self):
        with pytest.raises(ValueError, match="A capture posts"):
            capture(fresh(), -1)

    def test_one_nobody_placed_is_not_found(self):
        assert codes(apply(state(), [VoidHold(hold_id=fresh())])[1]) == ["hold_not_found"]


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["capture", "void", "leave"]))))
def test_pending_is_the_sum_of_open_holds(steps):
    commands: list = []
    for amount, end in steps:
        placed = hold(amount + 1)
        commands.append(placed)
        if end == "capture":
            commands.append(capture(placed.id, amount))
        elif end == "void":
            commands.append(VoidHold(hold_id=placed.id))

    after, _ = apply(state(a=200), commands)

    still_open = sum(h.amount_minor for h in after.holds.values() if h.status == "open")
    assert after.balances[A].pending_out == after.balances[B].pending_in == still_open
    assert after.balances[A].available >= 0
