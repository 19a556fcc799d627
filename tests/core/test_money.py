"""Money is a whole number of minor units; texts go in and out without losing one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.money import (
    EXPONENTS,
    Money,
    decimal_text,
    exponent,
    format_minor,
    minor_from_decimal,
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


class TestMinorFromDecimal:
    @pytest.mark.parametrize(
        ("text", "currency", "amount_minor"),
        [
            ("10.50", "EUR", 1050),
            ("10.5", "EUR", 1050),
            ("10", "EUR", 1000),
            ("10.", "EUR", 1000),
            (".5", "EUR", 50),
            ("0", "EUR", 0),
            ("-0.01", "EUR", -1),
            ("+3", "JPY", 3),
            ("10.50000", "EUR", 1050),
            ("7.000", "JPY", 7),
            ("1.234", "KWD", 1234),
            ("000012.00", "EUR", 1200),
        ],
    )
    def test_counts_the_minor_units(self, text, currency, amount_minor):
        assert minor_from_decimal(text, currency) == amount_minor

    @pytest.mark.parametrize(
        "text",
        ["", ".", "-", "+", "1,50", "1e3", "1_000", " 1", "1 ", "1\n", "NaN", "inf", "١٢", "--1"],
    )
    def test_refuses_what_is_no_plain_decimal(self, text):
        with pytest.raises(ValueError, match="plain decimal"):
            minor_from_decimal(text, "EUR")

    @pytest.mark.parametrize(("text", "currency"), [("1.005", "EUR"), ("1.5", "JPY")])
    def test_refuses_a_fraction_of_a_minor_unit(self, text, currency):
        with pytest.raises(ValueError, match="more decimals"):
            minor_from_decimal(text, currency)

    def test_does_not_round_a_long_number(self):
        with pytest.raises(ValueError, match="more decimals"):
            minor_from_decimal("1" * 40 + ".001", "EUR")

    @given(amounts, currencies)
    def test_reads_what_decimal_text_writes(self, amount_minor, currency):
        assert minor_from_decimal(decimal_text(amount_minor, currency), currency) == amount_minor


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
        assert minor_from_decimal(number.replace(",", ""), currency) == amount_minor
