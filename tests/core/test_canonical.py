"""Canonical JSON: equal values have one text, different values two."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.canonical import canonical_json, digest, quick_digest
from apps.core.money import Money
from apps.core.work import WorkState

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class TestCanonicalJson:
    @given(plain)
    def test_is_json_of_the_same_value(self, value):
        assert json.loads(canonical_json(value)) == value

    @given(st.dictionaries(st.text(), plain, max_size=5))
    def test_does_not_know_the_order_of_keys(self, value):
        turned = dict(reversed(value.items()))

        assert canonical_json(turned) == canonical_json(value)

    @given(plain, plain)
    def test_tells_different_values_apart(self, one, other):
        same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

        assert (digest(one) == digest(other)) == same

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"b": 1, "a": [None, True]}, '{"a":[null,true],"b":1}'),
            (UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
            (datetime(2026, 11, 2, 9, 30, tzinfo=UTC), '"2026-11-02T09:30:00Z"'),
            (date(2026, 11, 2), '"2026-11-02"'),
            (Money(1050, "EUR"), '{"amount":1050,"currency":"EUR"}'),
            (b"\x00\xff", '"00ff"'),
            ((1, "é"), '[1,"é"]'),
            (WorkState.DONE, '"done"'),
        ],
    )
    def test_has_one_form_of_each_type(self, value, text):
        assert canonical_json(value) == text

    def test_is_the_same_for_an_instant_in_any_zone(self):
        here = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
        there = here.astimezone(timezone(timedelta(hours=-5)))

        assert canonical_json(there) == canonical_json(here)

    @pytest.mark.parametrize(
        "value",
        [1.0, Decimal(1), {1, 2}, object(), {"deep": [0.5]}, datetime(2026, 11, 2, 9, 30)],  # noqa: DTZ001  (no zone is the point)
    )
    def test_refuses_what_has_no_one_form(self, value):
        with pytest.raises(TypeError, match="no canonical form"):
            canonical_json(value)


def test_a_digest_is_32_bytes_and_known():
    assert digest({"a": 1}).hex() == (
        "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    )


class TestQuickDigest:
    @given(
        st.lists(
            plain
            | st.uuids()
            | st.datetimes(timezones=st.just(UTC), min_value=datetime(1900, 1, 1)),  # noqa: DTZ001
            max_size=6,
        )
    )
    def test_is_the_digest_of_what_requests_are_made_of(self, value):
        assert quick_digest(value) == digest(value)

    def test_of_what_the_quick_encoder_refuses_is_the_digest_too(self):
        assert quick_digest([1, 10**40]) == digest([1, 10**40])
