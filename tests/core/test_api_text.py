"""Text from outside: normalised, or refused."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core import text
from apps.core.text import CardNumberRefused, TextRefused, clean


class TestClean:
    @given(st.text(max_size=60))
    def test_gives_normal_text_or_refuses(self, value: str) -> None:
        try:
            cleaned = clean(value)
        except TextRefused:
            return

        assert unicodedata.is_normalized("NFC", cleaned)
        assert clean(cleaned) == cleaned

    def test_one_name_written_two_ways_becomes_one(self) -> None:
        assert clean("Zoe\u0308") == clean("Zoë") == "Zoë"

    @pytest.mark.parametrize(
        "value",
        [
            "a\x00",
            "a\n",
            "\x7f",
            "\x85",
            "a\u200bb",
            "\u200d",
            "\u2060",
            "\ufeffa",
            "\u202eabc",
            "\u2066abc",
            "\u061c",
            "\u00ad",
            "\ue000",
            "\u0378",
            "\u2028",
            "\U000e0041",
            "\ud800",
        ],
        ids=ascii,
    )
    def test_refuses_what_nobody_can_see(self, value: str) -> None:
        with pytest.raises(TextRefused):
            clean(value)

    def test_takes_four_marks_in_a_row_and_not_five(self) -> None:
        assert clean("x" + "\u0323" * 4)
        with pytest.raises(TextRefused):
            clean("x" + "\u0323" * 5)
        with pytest.raises(TextRefused):
            clean("x" + "\u0301" * 10_000)

    @pytest.mark.parametrize("value", ["", "Åsa Öberg", "北京", "Ünïcödé ✓", "🎉", "Ελλάδα"])
    def test_takes_the_names_of_the_world(self, value: str) -> None:
        assert clean(value) == value


class TestCardNumbers:
    @pytest.mark.parametrize(
        "value",
        [
            "4111111111111111",
            "pay 4111 1111 1111 1111 now",
            "5500-0000-0000-0004",
            "378282246310005",
            "6011111111111117",
            "30569309025904",
            "3530111333300000",
            "2223003122003222",
            "order 12 4111 1111 1111 1111",
            "card4222222222222",
            "٤١١١١١١١١١١١١١١١",
            "４１１１　１１１１　１１１１　１１１１",
        ],
    )
    def test_are_refused_however_they_are_written(self, value: str) -> None:
        with pytest.raises(CardNumberRefused) as refusal:
            clean(value)

        assert refusal.value.code == "pan_not_allowed"
        assert "1111" not in str(refusal.value)

    @pytest.mark.parametrize(
        "value",
        [
            "RF18539007547034",
            "RF18 5390 0754 7034",
            "4111111111111112",
            "1234567890123",
            "invoice 2026-11-23 0001",
            "411111111111111111111111",
            "DE89370400440532013000",
            "018f5e3c-4111-7111-8111-111111111111",
        ],
    )
    def test_other_numbers_are_let_through(self, value: str) -> None:
        assert clean(value) == value

    def test_an_invalid_creditor_reference_spares_nothing(self) -> None:
        with pytest.raises(CardNumberRefused):
            clean("RF00 4111 1111 1111 1111")

    def test_in_a_bank_text_all_but_the_last_four_digits_are_masked(self) -> None:
        assert (
            text.mask_card_numbers("KORT 4111 1111 1111 1111 och 5500000000000004")
            == "KORT •••• •••• •••• 1111 och ••••••••••••0004"
        )
        assert text.mask_card_numbers("REF 12345") == "REF 12345"
