"""No bank account and no card number stands in a log, however it is written; ids and times do."""

import itertools
import json
import re
import string
from datetime import datetime, timedelta
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apps.core.ibans import spec_of
from apps.core.ids import encode_id
from config.redaction import redact_text

# First digits and lengths, as each scheme gives them out.
CARDS = [
    ("4", 13), ("4", 16), ("4", 19), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16),
    ("34", 15), ("37", 15), ("300", 14), ("36", 14), ("38", 14), ("6011", 16), ("6011", 19),
    ("644", 16), ("65", 16), ("62", 16), ("62", 19), ("3528", 16), ("3589", 16), ("5018", 13),
    ("5893", 15), ("6304", 19), ("6763", 16), ("2200", 16), ("2204", 19), ("9792", 16),
    ("6069", 16), ("8172", 16), ("8201", 16), ("6360", 16), ("6371", 16), ("8600", 16),
    ("9860", 16), ("9704", 16), ("9704", 19), ("6334", 18),
]  # fmt: skip
DIGITS = string.digits
COUNTRIES = [
    country
    for country in map("".join, itertools.product(string.ascii_uppercase, repeat=2))
    if spec_of(country)
]
# What stands between two characters of a number, as text, addresses, JSON and Python have it.
GAPS = [
    "", " ", "  ", "-", " - ", "\n", "\r\n", "\t", "\u00a0", "\u202f", "\u2011", "\u200b", "_",
    "%20", "+", "%0A", "%0D%0A", "%2D", "%C2%A0", r"\n", r"\r\n", r"\t", r"\u00a0", r"\\n", r"\xa0",
    "%E2%80%AF", "%E3%80%80", r"\\u00a0", "%C2%AD", "%E2%88%92", "%EF%BB%BF", r"\xc2\xa0",
    r"\xc2\xad", r"\xe2\x80\x93", r" \xe2\x80\x93 ", r"\\xe2\\x80\\x93", r"\ufeff", "%2520",
    "%252520", "%252D", "%250A", "%25C2%25AD", "%25E2%2580%2593", "%20%E2%80%93%20", "\u00ad",
    " \u2013 ",
]  # fmt: skip
# What parts groups of four and more only: days, times, amounts and addresses are written so too.
GROUP_GAPS = [".", ",", "/", ":"]
# Blanks, dashes and what takes no room, of whatever script.
SEPARATORS = [
    " ", "-", "\t", "\u0085", "\u00a0", "\u00ad", "\u058a", "\u05be", "\u1680", "\u1806", "\u2003",
    "\u200b", "\u2013", "\u2028", "\u202f", "\u205f", "\u2060", "\u2212", "\u2e3a", "\u3000",
    "\u3030", "\ufe58", "\ufe63", "\ufeff", "\uff0d",
]  # fmt: skip
SIZES = [[4], [4, 6, 5], [5], [6, 4], [13, 6]]
# What stands before and behind it without a blank.
EDGES = ["", " ", "\n", "(", "=", '"', "%3D", "%22", r"\n", r"\"", "_", "/", ":", "\u00a0", "é: "]
WORDS = st.text(st.sampled_from(string.ascii_letters + string.digits + " .,-:/_äЖ%\\"), max_size=30)


def with_check_digit(body: str) -> str:
    doubled = [int(d) * (2 - at % 2) for at, d in enumerate(reversed(body))]
    return f"{body}{-sum(sum(divmod(one, 10)) for one in doubled) % 10}"


def with_check_digits(country: str, bban: str) -> str:
    number = int("".join(str(int(c, 36)) for c in f"{bban}{country}00"))
    return f"{country}{98 - number % 97:02}{bban}"


@st.composite
def cards(draw):
    prefix, length = draw(st.sampled_from(CARDS))
    size = length - len(prefix) - 1
    return with_check_digit(prefix + draw(st.text(DIGITS, min_size=size, max_size=size)))


@st.composite
def ibans(draw):
    country = draw(st.sampled_from(COUNTRIES))
    bban = draw(
        st.from_regex(
            spec_of(country).regex, fullmatch=True, alphabet=string.ascii_letters + DIGITS
        )
    )
    return with_check_digits(country, bban.upper())


def written(draw, number: str) -> str:
    """Write it in groups of whatever sizes, with one thing between them."""
    gap = draw(st.sampled_from(GAPS))
    return gap.join(grouped(number, draw(st.sampled_from([*SIZES, [3], [1], [2, 5]]))))


def written_in_groups(draw, number: str) -> str:
    """Write it in groups of four and more, one of those between them that part only such."""
    return draw(st.sampled_from(GROUP_GAPS)).join(grouped(number, draw(st.sampled_from(SIZES))))


def grouped(number: str, sizes: list[int]) -> list[str]:
    groups, at = [], 0
    while at < len(number):
        size = sizes[len(groups) % len(sizes)]
        groups.append(number[at : at + size])
        at += size
    return groups


def programs_make(text: str) -> list[str]:
    """Return the text as it stands in addresses, in JSON, and in what Python prints."""
    return [
        quote(text, safe=""), quote_plus(text), quote(quote(text, safe=""), safe=""),
        json.dumps(text), repr(text), ascii(text), repr(text.encode()), json.dumps(ascii(text)),
    ]  # fmt: skip


def bare(text: str) -> str:
    """Return only what anybody would read as the characters of a number."""
    for gap in sorted(GAPS, key=len, reverse=True):
        text = text.replace(gap, "") if gap else text
    return re.sub(r"[.,/:]", "", text).upper()


class TestNoCardStandsInALine:
    @given(st.data())
    def test_in_any_text(self, data):
        card = data.draw(cards())
        text = data.draw(WORDS) + data.draw(st.sampled_from(EDGES[1:]))
        assume(not text[-1:].isalnum())
        text += written(data.draw, card)
        behind = data.draw(st.sampled_from(EDGES[1:]))
        assume(not behind[:1].isalnum())
        text += behind + data.draw(WORDS)

        assert card not in bare(redact_text(text))

    @given(cards(), st.sampled_from(GAPS), st.data())
    def test_beside_other_numbers(self, card, gap, data):
        assume(gap)
        before, behind = data.draw(st.lists(st.text(DIGITS, min_size=1), max_size=4)), "12"
        # Nor do those spell it by themselves from the middle of one on: groups are kept whole.
        assume(card not in "".join(before))
        text = gap.join([*before, card[:4], card[4:8], card[8:12], card[12:], behind])

        assert card not in bare(redact_text(text))

    @given(st.data())
    def test_in_groups(self, data):
        card = data.draw(cards())
        text = written_in_groups(data.draw, card)
        before = data.draw(st.sampled_from(["card ", "card=", "card:", "/pay/", "[", '"', "%2F"]))
        behind = data.draw(
            st.sampled_from([". Thanks.", ", thanks", "/next", ": ok", "]", '"', ""])
        )

        assert card not in bare(redact_text(f"{before}{text}{behind}"))

    @given(cards())
    def test_in_what_programs_make_of_text(self, card):
        spaced = f"card: {card[:4]} {card[4:8]} {card[8:12]} {card[12:]}\nthanks"
        for text in programs_make(spaced):
            assert card not in bare(redact_text(text))

    @given(cards(), st.sampled_from(SEPARATORS))
    def test_between_whatever_takes_no_digit_as_programs_spell_it(self, card, separator):
        text = separator.join(grouped(card, [4]))
        for spelled in programs_make(text):
            said = redact_text(spelled)
            assert said.strip("b'\"\\") == "[pan]", spelled


class TestNoAccountStandsInALine:
    @given(st.data())
    def test_in_any_text(self, data):
        iban = data.draw(ibans())
        text = data.draw(WORDS) + written(data.draw, iban) + data.draw(WORDS)

        assert iban not in bare(redact_text(text))

    @given(st.data())
    def test_in_groups(self, data):
        iban = data.draw(ibans())
        text = written_in_groups(data.draw, iban)

        assert iban not in bare(redact_text(f"to {text} and on"))

    @pytest.mark.parametrize("gap", ["", " ", "%2D", "%20", r"\xa0"])
    @pytest.mark.parametrize(
        ("before", "iban"),
        [
            ("a%3", "AE070331234567890123456"),
            ("%2", "CH9300762011623852957"),
            (r"\x", "AD1200012030200359100100"),
            (r"\u", "BE68539007547034"),
            (r"\u00", "DE89370400440532013000"),
            ("%25", "BE68539007547034"),
            ("\\", "FI2112345600000785"),
        ],
    )
    def test_behind_what_spells_an_escape_with_its_first_letters(self, before, iban, gap):
        written = gap.join(iban[at : at + 4] for at in range(0, len(iban), 4))

        assert redact_text(f"{before}{written}.") == f"{before}[iban]."

    @given(st.data())
    def test_in_small_letters_as_a_word(self, data):
        iban = data.draw(ibans()).lower()
        before, behind = (data.draw(st.sampled_from(EDGES[1:-1])) for _ in "ab")

        assert iban not in redact_text(f"{before}{iban}{behind}")

    @given(ibans(), st.text(DIGITS, min_size=2, max_size=2))
    def test_behind_what_looks_like_another_one(self, iban, digits):
        groups = " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))
        for country in COUNTRIES:
            assert iban not in bare(redact_text(f"{country}{digits} {groups}"))

    @given(ibans())
    def test_in_what_programs_and_banks_make_of_text(self, iban):
        groups = " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))
        spaced = f"IBAN:\n{groups}\nthanks"
        bank = f"166?00SEPA?20SVWZ+rent?31{iban}?32ADA LOVELACE IBAN+{iban}BIC+COBADEFF"
        for text in (*programs_make(spaced), bank):
            assert iban not in bare(redact_text(text))


class TestWhatIsOrdinaryStays:
    @given(st.uuids())
    def test_uuids(self, uuid):
        for text in (f"row {uuid} of {uuid}", f"{uuid}", f"/x/{uuid}/", uuid.hex):
            assert redact_text(text) == text

    @given(st.sampled_from(["je", "la", "po", "cus", "no", "de", "ho"]), st.uuids())
    def test_ids(self, kind, uuid):
        text = f"{encode_id(kind, uuid)} after {encode_id(kind, uuid)}"

        assert redact_text(text) == text

    @given(
        st.datetimes(datetime(2020, 1, 1), datetime(2032, 1, 1)),  # noqa: DTZ001  (as text)
        st.sampled_from([timedelta(), timedelta(minutes=1)]),
    )
    def test_times(self, at, later):
        seconds = int((at - datetime(1970, 1, 1)).total_seconds())  # noqa: DTZ001
        for text in (
            f"from {at.isoformat()}Z to {(at + later).isoformat()}Z",
            f"{at:%Y-%m-%d %H:%M:%S},123 {at + later:%Y-%m-%d %H:%M:%S},456",
            f"{at:%Y%m%d%H%M%S} {at:%Y%m%d%H%M%S%f} {at:%Y%m%dT%H%M%S}",
            f"{seconds} {seconds * 1000 + 123} {seconds * 10**6 + 1} {seconds * 10**9 + 1}",
            f"{seconds}.{at.microsecond:06}",
            f"{at:%Y/%m/%d %H:%M:%S},123 {at + later:%d/%m/%Y:%H:%M:%S} +0000",
            f"{at:%Y-%m-%dT%H:%M:%S}/{at + later:%Y-%m-%dT%H:%M:%S}",
            f"/archive/{at:%Y/%m/%d/%H/%M}/{at:%Y%m%d}/{at:%H%M%S}.csv",
        ):
            assert redact_text(text) == text

    @given(st.integers(0, 10**12 - 1), st.sampled_from(["EUR", "SEK", "JPY"]))
    def test_amounts(self, minor, currency):
        whole, cents = divmod(minor, 100)
        for text in (
            f"{minor} {currency}", f"{currency} {minor}", f"{whole:,}.{cents:02} {currency}",
            f"{whole:,}".replace(",", ".") + f",{cents:02} {currency}",
            f"{minor:,} {currency}", f"{whole},{cents:02} {currency}", f"{currency}:{minor}",
        ):  # fmt: skip
            assert redact_text(text) == text

    @given(st.lists(st.integers(1_000, 10**9), min_size=2, max_size=12))
    def test_lists_of_numbers(self, numbers):
        for text in (f"ids {numbers}", f"ids {tuple(numbers)}", f"{set(numbers)} done"):
            assert redact_text(text) == text

    @given(st.lists(st.integers(1_000, 9_999), min_size=4, max_size=6), st.integers(1, 65535))
    def test_addresses_without_letters(self, groups, port):
        address = ":".join(map(str, groups))
        long = ":".join(map(str, (groups * 2)[:8]))
        for text in (f"from {address}::1", f"from {long}", f"[{long}]:{port}", f"{address}::/64"):
            assert redact_text(text) == text

    @given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.ip_addresses(v=6), st.integers(1, 65535))
    def test_addresses(self, one, other, long, port):
        text = f"{one}:{port} and {other}, {long} [{long}]:{port}"

        assert redact_text(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("ID42 DE89 3704 0044 0532 0130 00", "ID42 [iban]"),
        ("DE89-3704-0044-0532-0130-00.", "[iban]."),
        ("DE89.3704.0044.0532.0130.00", "[iban]"),
        ("DE 89 37040044 0532013000 and", "[iban] and"),
        (r"'iban:\nDE89370400440532013000\n'", r"'iban:\n[iban]\n'"),
        ("?q=DE89%203704%200044%200532%200130%2000&x=1", "?q=[iban]&x=1"),
        ("?q%3DDE89370400440532013000", "?q%3D[iban]"),
        ("?31DE89370400440532013000?32", "?31[iban]?32"),
        ("ES9121000418450200051332 ES6421000418450200051333", "[iban] [iban]"),
        ("order 12 9792 0303 9444 0796", "order 12 [pan]"),
        ("order 12 2200 1234 5678 9019 99", "order 12 [pan] 99"),
        ("4111.1111.1111.1111.", "[pan]."),
        ("4111\n1111\n1111\n1111", "[pan]"),
        ("4111/1111/1111/1111 12/28", "[pan] 12/28"),
        ("number:4111:1111:1111:1111", "number:[pan]"),
        ("4111,1111,1111,1111,12/28", "[pan],12/28"),
        ("DE89:3704:0044:0532:0130:00", "[iban]"),
        (r"b'4111\xe2\x80\x931111\xe2\x80\x931111\xe2\x80\x931111'", "b'[pan]'"),
        ("?card=4111%C2%AD1111%C2%AD1111%C2%AD1111", "?card=[pan]"),
        ("?to=%2Fpay%3Fcard%3D4111%25201111%25201111%25201111", "?to=%2Fpay%3Fcard%3D[pan]"),
        ("4111%251111%251111%251111", "[pan]"),
        ("?card=4111%201111%201111%201111", "?card=[pan]"),
        ("?card%3D4111111111111111", "?card%3D[pan]"),
        (r"'card\n4111 1111 1111 1111\n12'", r"'card\n[pan]\n12'"),
        ("anna%40mail.example.com", "[email]"),
        ("4111 1111 1111 1111 DE89 3704 0044 0532 0130 00", "[pan] [iban]"),
    ],
)
def test_says_what_was_there(text, masked):
    assert redact_text(text) == masked
