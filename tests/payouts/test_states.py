import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.payouts.rules import AttemptPart, fee, fold_reference, payout_state
from apps.payouts.rules.derived import PriceLine
from apps.payouts.states import (
    ATTEMPT_MOVES,
    BATCH_MOVES,
    CANCELABLE,
    DESTINATION_MOVES,
    FINAL,
    PAYOUT_MOVES,
    AttemptState,
    BatchState,
    DestinationState,
    PayoutState,
)

attempt_states = st.sampled_from(AttemptState)
attempts = st.lists(
    st.builds(AttemptPart, attempt_states, st.integers(1, 10**6)), min_size=1, max_size=6
)


class TestTables:
    @pytest.mark.parametrize(
        ("states", "moves"),
        [
            (PayoutState, PAYOUT_MOVES),
            (AttemptState, ATTEMPT_MOVES),
            (BatchState, BATCH_MOVES),
            (DestinationState, DESTINATION_MOVES),
        ],
    )
    def test_every_state_is_listed_and_none_leads_to_itself(self, states, moves):
        assert set(moves) == set(states)
        assert all(state not in after for state, after in moves.items())

    def test_final_states_lead_nowhere(self):
        assert all(not PAYOUT_MOVES[state] for state in FINAL)

    def test_nothing_in_a_file_can_be_canceled(self):
        assert PayoutState.SCHEDULED in CANCELABLE
        assert PayoutState.BATCHED not in CANCELABLE


class TestDerivedState:
    @pytest.mark.parametrize(
        ("given_states", "expected"),
        [
            (["batched"], "batched"),
            (["submitted"], "submitted"),
            (["submitted", "unknown"], "unknown"),
            (["batched", "submitted"], "submitted"),
            (["settled", "settled"], "settled"),
            (["settled", "rejected"], "partly_settled"),
            (["settled", "returned"], "partly_settled"),
            (["rejected", "returned"], "returned"),
            (["returned", "rejected"], "returned"),
            (["rejected", "rejected"], "rejected"),
            (["not_sent"], "scheduled"),
            (["not_sent", "batched"], "batched"),
            (["rejected", "not_sent"], "scheduled"),
        ],
    )
    def test_follows_the_attempts(self, given_states, expected):
        parts = [AttemptPart(AttemptState(state), 50) for state in given_states]

        assert payout_state(amount_minor=50 * len(parts), attempts=parts) == expected

    @given(attempts)
    def test_is_settled_only_when_all_of_it_is(self, parts):
        amount = sum(part.amount_minor for part in parts)

        state = payout_state(amount_minor=amount, attempts=parts)

        everything_settled = all(part.state is AttemptState.SETTLED for part in parts)
        assert (state is PayoutState.SETTLED) == everything_settled

    @given(attempts)
    def test_never_closes_over_an_unknown_attempt(self, parts):
        state = payout_state(amount_minor=1, attempts=parts)

        assert (state is PayoutState.UNKNOWN) == any(
            part.state is AttemptState.UNKNOWN for part in parts
        )


class TestFolding:
    @pytest.mark.parametrize("text", ["Invoice 12", " INVOICE   12 ", "invoice\t12"])
    def test_spellings_of_one_reference_are_the_same(self, text):
        assert fold_reference(text) == "invoice 12"


class TestFee:
    def test_is_the_price_of_the_rail_and_currency(self):
        prices = [PriceLine("sct", "EUR", 25), PriceLine("sct_inst", "EUR", 80)]

        assert fee(rail="sct_inst", currency="EUR", prices=prices) == 80
        assert fee(rail="sct", currency="SEK", prices=prices) == 0
