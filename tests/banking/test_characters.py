import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.banking.formats.characters import ALLOWED, convert


@pytest.mark.parametrize(
    ("given_text", "written"),
    [
        ("Łukasz & Søn <b>", "Lukasz + Son .b."),
        ("Straße Æsøp Œuvre", "Strase Asop Ouvre"),
        ("José Ñandú Şükrü Čapek", "Jose Nandu Sukru Capek"),
        ("Jose\u0301", "Jose"),
        ("Ελλάς Θέμις", "Ellas Themis"),
        ("България Щъркел", "Balgariya Shtarkel"),
        ("O’Neill – „Bar“", "O'Neill - 'Bar'"),
        ("ﬁne ①", "fine 1"),
        ("東京 Ltd", ".. Ltd"),
        ("  two   spaces\tand a tab ", "two spaces and a tab"),
        ("a_b@c;d", "a-b(at)c,d"),
    ],
)
def test_known_conversions(given_text, written):
    assert convert(given_text, length_max=70).text == written


def test_plain_text_is_not_changed_and_says_so():
    result = convert("Ada Lovelace (UK) 1+1", length_max=70)

    assert (result.text, result.is_changed) == ("Ada Lovelace (UK) 1+1", False)


def test_a_long_name_is_cut_and_says_so():
    result = convert("Łukasz & Søn <b>" + "x" * 80, length_max=70)

    assert len(result.text) == 70
    assert (result.is_converted, result.is_cut) == (True, True)


def test_a_name_of_nothing_but_stops_is_meaningless():
    assert convert("東京", length_max=70).is_meaningless
    assert not convert("東京 A", length_max=70).is_meaningless


@given(st.text(max_size=200), st.integers(1, 140))
def test_any_text_ends_in_the_basic_set_within_its_length(text, length_max):
    result = convert(text, length_max=length_max)

    assert ALLOWED.issuperset(result.text)
    assert len(result.text) <= length_max
    assert "  " not in result.text
    assert result.text == result.text.strip(" ")


@given(st.text(max_size=200), st.integers(1, 140))
def test_converting_twice_changes_nothing_more(text, length_max):
    once = convert(text, length_max=length_max)

    assert convert(once.text, length_max=length_max).text == once.text
    assert once.is_changed == (once.text != text)


@given(st.text(max_size=60))
def test_composed_and_decomposed_text_are_the_same(text):
    forms = {
        convert(unicodedata.normalize(form, text), length_max=140).text for form in ("NFC", "NFD")
    }

    assert len(forms) == 1
