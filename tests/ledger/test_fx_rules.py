"""The pure rule of exchanges: rounded for liquidity, nothing lost, nothing stale."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.money import exponent
from apps.ledger.errors import (
    FxAmountTooSmall,
    FxQuoteStale,
    FxRateInvalid,
    FxSameCurrency,
)
from apps.ledger.rules import Quote, check_fresh, quote, rate_text

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
any_currency = st.sampled_from(["EUR", "USD", "JPY", "KWD", "CLF"])
any_rate = st.decimals("0.000000000001", "9999999999999999", places=12)


def quoted(amount: int, rate: str, sold: str = "EUR", bought: str = "USD") -> Quote:
    return quote(sold_minor=amount, sold_currency=sold, bought_currency=bought, rate=Decimal(rate))


class TestQuote:
    @pytest.mark.parametrize(
        ("amount", "rate", "sold", "bought", "expected", "remainder"),
        [
            (100_00, "1.08456", "EUR", "USD", 108_45, "0.6"),
            (1_00, "163.45", "EUR", "JPY", 163, "0.45"),
            (1000, "0.006118", "JPY", "EUR", 611, "0.8"),
            (1_00, "0.3342", "EUR", "KWD", 334, "0.2"),
            (1, "1", "EUR", "USD", 1, "0"),
            (10**13, "0.000000000001", "EUR", "USD", 10, "0"),
        ],
    )
    def test_rounds_down_and_shows_the_rest(self, amount, rate, sold, bought, expected, remainder):
        assert quoted(amount, rate, sold, bought) == Quote(expected, Decimal(remainder))

    def test_that_buys_nothing_is_refused(self):
        with pytest.raises(FxAmountTooSmall) as refused:
            quoted(99, "0.01")

        assert refused.value.details["amount"] == 99
        assert quoted(100, "0.01").bought_minor == 1

    def test_of_one_currency_is_refused(self):
        with pytest.raises(FxSameCurrency):
            quoted(100, "1", "EUR", "EUR")

    @pytest.mark.parametrize(
        "rate", ["0", "-1", "NaN", "Infinity", "1E+16", "0.0000000000001", "1.0000000000001"]
    )
    def test_at_what_is_no_rate_is_refused(self, rate):
        with pytest.raises(FxRateInvalid):
            quoted(100, rate)

    @given(st.integers(1, 10**13), any_currency, any_currency, any_rate)
    def test_loses_nothing_and_never_favors_the_customer(self, amount, sold, bought, rate):
        try:
            found = quote(sold_minor=amount, sold_currency=sold, bought_currency=bought, rate=rate)
        except (FxSameCurrency, FxAmountTooSmall):
            return

        exact = amount * Fraction(rate) * Fraction(10) ** (exponent(bought) - exponent(sold))
        assert found.bought_minor + Fraction(found.remainder_minor) == exact
        assert 0 <= found.remainder_minor < 1
        assert 0 < found.bought_minor <= exact
        with localcontext(prec=60):
            # It fits the column that keeps it.
            assert found.remainder_minor == found.remainder_minor.quantize(Decimal("1e-20"))


class TestFreshness:
    @pytest.mark.parametrize("age", [0, 1, 300])
    def test_of_five_minutes_is_enough(self, age):
        check_fresh(quoted_at=NOW - timedelta(seconds=age), now=NOW)

    @pytest.mark.parametrize("ahead", [0.001, 4.999_999, 5])
    def test_is_not_lost_by_a_clock_that_is_a_little_ahead(self, ahead):
        check_fresh(quoted_at=NOW + timedelta(seconds=ahead), now=NOW)

    @pytest.mark.parametrize("age", [-86400, -5.000_001, 300.001, 86400])
    def test_is_lost_by_age_and_not_had_by_the_future(self, age):
        with pytest.raises(FxQuoteStale) as refused:
            check_fresh(quoted_at=NOW - timedelta(seconds=age), now=NOW)

        assert refused.value.details == {"quote_seconds_max": 300}


class TestRateText:
    @pytest.mark.parametrize(
        ("rate", "text"),
        [("1.10", "1.1"), ("100", "100"), ("0E-20", "0"), ("0.000001", "0.000001")],
    )
    def test_is_plain(self, rate, text):
        assert rate_text(Decimal(rate)) == text
