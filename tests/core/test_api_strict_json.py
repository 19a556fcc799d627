"""What the parser of every request body refuses, and that it can be trusted with the rest."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.strict_json import (
    DEPTH_MAX,
    JsonNotUtf8,
    JsonRefused,
    JsonTooLarge,
    escape,
    parse,
)

plain_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30) + 1, 10**30 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | plain_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_text, inner, max_size=4),
    max_leaves=30,
)


class TestParse:
    @given(any_json, st.booleans())
    def test_gives_back_whatever_json_was_written(self, value, ascii_only) -> None:
        body = json.dumps(value, ensure_ascii=ascii_only).encode()

        assert parse(body) == value

    @given(st.binary(max_size=200))
    def test_never_fails_but_by_refusing(self, body: bytes) -> None:
        try:
            parse(body)
        except JsonRefused as refusal:
            assert refusal.detail  # noqa: PT017 - any other exception fails the test

    @given(st.text(alphabet='[]{}",:\\u0019-+eE.ntfalsr ', max_size=80))
    def test_agrees_with_the_standard_library_wherever_it_accepts(self, text: str) -> None:
        try:
            value = parse(text.encode())
        except JsonRefused:
            return

        assert value == json.loads(text)

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            (b'{"a": 1, "a": 1}', "/a"),
            (b'{"a": [{"b": {"c/d": 1, "c/d": 2}}]}', "/a/0/b/c~1d"),
            (b'{"amount": NaN}', "/amount"),
            (b'{"amount": -Infinity}', "/amount"),
            (b'{"amount": 1e400}', "/amount"),
            (b'[1, {"amount": ' + b"1" * 31 + b"}]", "/1/amount"),
            (b'{"amount": 1' + b"0" * 5000 + b"}", "/amount"),
            (b'{"amount": 0.' + b"1" * 50 + b"}", "/amount"),
            (b'{"name": "\\ud800"}', "/name"),
            (b'{"name": {"x\\udfff": 1}}', "/name"),
            (b'{"name": "a\\u0000b"}', "/name"),
            (b"\xef\xbb\xbf{}", ""),
            (b"{} {}", ""),
            (b'{"a": 1,}', ""),
            (b"{'a': 1}", ""),
            (b'{"a": 01}', ""),
            (b'{"a": +1}', ""),
            (b'{"a": .5}', ""),
            (b'{"a": "\x00"}', ""),
            (b"\x00", ""),
            (b"", ""),
            ('{"a": ١٢}'.encode(), ""),
        ],
    )
    def test_refuses_and_says_where(self, body: bytes, pointer: str) -> None:
        with pytest.raises(JsonRefused) as refusal:
            parse(body)

        assert refusal.value.pointer == pointer

    def test_keeps_a_fraction_apart_from_an_integer(self) -> None:
        assert [type(value) for value in parse(b"[1, 1.0, 1e0, true]")] == [int, float, float, bool]

    def test_takes_thirty_digits_of_either_sign(self) -> None:
        assert parse(b"-" + b"9" * 30) == -int("9" * 30)


class TestBounds:
    def test_counts_bytes_not_characters(self) -> None:
        body = '"€€"'.encode()

        assert parse(body, bytes_max=8) == "€€"
        with pytest.raises(JsonTooLarge):
            parse(body, bytes_max=7)

    @pytest.mark.parametrize(
        "body", [b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', "ä".encode("utf-16")]
    )
    def test_refuses_bytes_that_are_not_utf_8(self, body: bytes) -> None:
        with pytest.raises(JsonNotUtf8):
            parse(body)

    @given(st.integers(1, 40), st.sampled_from(["[", '{"a":']))
    def test_depth_is_refused_exactly_beyond_twenty(self, depth: int, opening: str) -> None:
        closing = "]" if opening == "[" else "}"
        body = (opening * (depth - 1) + "[]" + closing * (depth - 1)).encode()

        if depth <= DEPTH_MAX:
            parse(body)
        else:
            with pytest.raises(JsonRefused, match="levels deep"):
                parse(body)

    def test_brackets_inside_strings_are_not_depth(self) -> None:
        assert parse(b'["' + b"[" * 500 + b'\\"{{{"]') == ["[" * 500 + '"{{{']

    def test_as_many_values_as_allowed_are_read_and_one_more_is_not(self) -> None:
        assert len(parse(b"[" + b"1," * 9_998 + b"1]")) == 9_999
        with pytest.raises(JsonRefused, match="more than 10000 values"):
            parse(b"[" + b"1," * 9_999 + b"1]")

    def test_a_bulk_route_may_read_more(self) -> None:
        assert len(parse(b"[" + b"1," * 19_999 + b"1]", nodes_max=30_000)) == 20_000

    @pytest.mark.parametrize(
        "body",
        [
            b"[" * 1_000_000,
            b'{"a":' * 200_000,
            b"[" * 500_000 + b"]" * 500_000,
            b'"' + b'\\"' * 500_000,
            b'"' * 1_000_000,
            b"[" + b'"\\' * 300_000,
            b"-" * 1_000_000,
            b"1" * 1_000_000,
            b"0." + b"1" * 1_000_000,
        ],
        ids=lambda body: repr(body[:6]),
    )
    def test_a_hostile_megabyte_is_refused_in_no_time(self, body: bytes) -> None:
        begun = time.process_time()

        with pytest.raises(JsonRefused):
            parse(body, nodes_max=10_000_000)

        assert time.process_time() - begun < 1


def test_a_key_is_one_step_of_a_pointer() -> None:
    assert escape("a/b~c") == "a~1b~0c"
