"""Splitting an amount: shares that always add up."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ledger.errors import SharesExceedWhole
from apps.ledger.rules import WHOLE_BASIS_POINTS, split_by_basis_points

any_amount = st.integers(0, 10**13)


@st.composite
def any_shares(draw):
    shares = draw(st.lists(st.integers(0, 2000), max_size=5))
    return [*shares, draw(st.integers(0, WHOLE_BASIS_POINTS - sum(shares)))]


class TestSplitByBasisPoints:
    @pytest.mark.parametrize(
        ("amount", "shares", "parts", "left"),
        [
            (99, [2000] * 5, [20, 20, 20, 20, 19], 0),
            (1001, [5000, 2500], [501, 250], 250),
            (100_00, [250], [2_50], 97_50),
            (10, [], [], 10),
            (0, [10_000], [0], 0),
            (7, [0, 10_000], [0, 7], 0),
            (1, [0, 5000, 5000], [0, 1, 0], 0),
        ],
    )
    def test_hands_the_rest_out_from_the_top(self, amount, shares, parts, left):
        assert split_by_basis_points(amount, shares) == (parts, left)

    @pytest.mark.parametrize("shares", [[10_001], [5000, 5001], [3000] * 4])
    def test_of_more_than_the_whole_is_refused(self, shares):
        with pytest.raises(SharesExceedWhole) as refused:
            split_by_basis_points(100, shares)

        assert refused.value.details == {"basis_points": sum(shares), "basis_points_max": 10_000}

    @pytest.mark.parametrize(("amount", "shares"), [(-1, [1]), (1, [-1, 2])])
    def test_of_nothing_sensible_is_refused(self, amount, shares):
        with pytest.raises(ValueError, match="none is negative"):
            split_by_basis_points(amount, shares)

    @given(any_amount, any_shares())
    def test_adds_up_and_is_at_most_a_unit_off(self, amount, shares):
        parts, left = split_by_basis_points(amount, shares)

        assert sum(parts) + left == amount
        assert left >= 0
        for part, share in zip(parts, shares, strict=True):
            assert abs(part - Fraction(amount * share, WHOLE_BASIS_POINTS)) <= 1
            assert share or not part
