"""Money is a whole number of minor units; texts go in and out without losing one."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.money import (
    EXPONENTS,
    Money,
    decimal_text,
    exponent,
    format_minor,
)

currencies = st.sampled_from(sorted(EXPONENTS))
amounts = st.integers(-(10**30), 10**30)


class TestExponent:
    @pytest.mark.parametrize(
        ("currency", "places"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("CHF", 2)]
    )
    def test_is_that_of_iso_4217(self, currency, places):
        assert exponent(currency) == places

    @pytest.mark.parametrize("currency", ["", "eur", "EURO", "XAU", "XTS", "XXX", "EU\u0052 "])
    def test_is_refused_for_what_is_no_currency(self, currency):
        with pytest.raises(ValueError, match="ISO 4217"):
            exponent(currency)


class TestMoney:
    def test_prints_as_people_read_it(self):
        assert str(Money(125_000, "EUR")) == "1,250.00 EUR"

    @pytest.mark.parametrize("amount", [True, 1.0, "1", None])
    def test_takes_nothing_but_a_whole_number(self, amount):
        with pytest.raises(TypeError, match="whole number"):
            Money(amount, "EUR")

    def test_refuses_an_unknown_currency(self):
        with pytest.raises(ValueError, match="ISO 4217"):
            Money(1, "XAU")

    def test_is_a_value(self):
        assert {Money(1, "EUR"), Money(1, "EUR"), Money(1, "USD")} == {
            Money(1, "EUR"),
            Money(1, "USD"),
        }


class TestDecimalText:
    @pytest.mark.parametrize(
        ("amount_minor", "currency", "text"),
        [(1050, "EUR", "10.50"), (-1, "EUR", "-0.01"), (3, "JPY", "3"), (1, "KWD", "0.001")],
    )
    def test_has_the_decimals_of_the_currency(self, amount_minor, currency, text):
        assert decimal_text(amount_minor, currency) == text

    @given(amounts, currencies)
    def test_keeps_every_digit(self, amount_minor, currency):
        read = Fraction(decimal_text(amount_minor, currency))

        assert read * 10 ** exponent(currency) == amount_minor


class TestFormatMinor:
    @pytest.mark.parametrize(
        ("amount_minor", "currency", "text"),
        [
            (0, "EUR", "0.00 EUR"),
            (5, "EUR", "0.05 EUR"),
            (-5, "EUR", "-0.05 EUR"),
            (-123_456_789, "EUR", "-1,234,567.89 EUR"),
            (1_234_567, "JPY", "1,234,567 JPY"),
            (1, "KWD", "0.001 KWD"),
        ],
    )
    def test_groups_thousands(self, amount_minor, currency, text):
        assert format_minor(amount_minor, currency) == text

    @given(amounts, currencies)
    def test_keeps_every_digit(self, amount_minor, currency):
        number, _, shown = format_minor(amount_minor, currency).partition(" ")

        assert shown == currency
        assert number.replace(",", "") == decimal_text(amount_minor, currency)
