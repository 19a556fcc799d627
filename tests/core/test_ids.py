"""Ids: UUIDv7 in order, and a printed form that is one to one."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from apps.core import clock, ids
from apps.core.errors import InvalidInput, NotFound
from apps.core.ids import (
    MalformedId,
    WrongIdKind,
    decode_id,
    decode_often,
    encode_id,
    encode_ids,
    encode_often,
    new_id,
    new_ids,
)

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LARGEST = UUID(int=2**128 - 1)


class TestNewId:
    def test_is_a_uuid_of_version_7(self):
        made = new_id()

        assert (made.version, made.variant) == (7, "specified in RFC 4122")

    def test_carries_the_time(self):
        made = new_id()

        seconds, milliseconds = divmod(made.int >> 80, 1000)
        told = datetime.fromtimestamp(seconds, UTC) + timedelta(milliseconds=milliseconds)
        assert abs(clock.now() - told) < timedelta(seconds=5)

    def test_ascends_within_a_process_whatever_the_batch(self):
        made = [*new_ids(10_000), new_id(), *new_ids(3), new_id()]

        assert made == sorted(made)
        assert len(set(made)) == len(made)

    def test_of_none_is_none(self):
        before = new_id()

        assert new_ids(0) == []
        assert new_id() > before

    def test_ascends_when_the_clock_goes_back(self, monkeypatch):
        before = new_id()
        monkeypatch.setattr(ids.time, "time_ns", lambda: 1_000_000_000)

        assert new_id() > before

    def test_is_never_given_twice_by_threads_at_once(self):
        with ThreadPoolExecutor(8) as threads:
            made = [id_ for batch in threads.map(new_ids, [500] * 40) for id_ in batch]

        assert len(set(made)) == 20_000


class TestPrintedForm:
    @given(st.uuids(), st.sampled_from(["po", "cus", "la", "a_b"]))
    def test_reads_back(self, id_, prefix):
        text = encode_id(prefix, id_)

        assert decode_id(prefix, text) == id_
        assert len(text) == len(prefix) + 27

    @given(st.lists(st.uuids()), st.integers(0, 5_000))
    def test_of_many_is_that_of_each(self, apart, count):
        # Thousands that are made at once come into another millisecond, and into its other half.
        many = [*apart, *new_ids(count), *apart]

        assert encode_ids("je", many) == [encode_id("je", id_) for id_ in many]

    @given(st.uuids(), st.uuids())
    def test_sorts_like_the_ids(self, one, other):
        assert (encode_id("x", one) < encode_id("x", other)) == (one < other)

    @given(st.text(max_size=40) | st.text(ALPHABET, min_size=26, max_size=26))
    def test_has_one_text_for_one_id(self, text):
        try:
            id_ = decode_id("po", f"po_{text}")
        except MalformedId:
            return
        assert encode_id("po", id_) == f"po_{text}"

    def test_knows_its_ends(self):
        assert encode_id("x", UUID(int=0)) == "x_" + "0" * 26
        assert encode_id("x", LARGEST) == "x_7" + "z" * 25

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "po_",
            "po_" + "0" * 25,
            "po_" + "0" * 27,
            "po_8" + "0" * 25,  # more than 128 bits
            "po_" + "I" + "0" * 25,
            "po_" + "A" * 26,
            "po_" + "u" * 26,
            "po_" + "\u0660" * 26,
            "pö_" + "0" * 26,
            "0" * 26,  # of no kind at all
            "_" + "0" * 26,
            "\x00" * 29,
            None,
            7,
            ["po"],
        ],
    )
    def test_refuses_what_is_no_id(self, text):
        with pytest.raises(MalformedId) as refused:
            decode_id("po", text)

        assert isinstance(refused.value, InvalidInput)

    @pytest.mark.parametrize("text", ["cus_" + "0" * 26, "PO_" + "0" * 26])
    def test_is_not_found_under_another_prefix(self, text):
        with pytest.raises(WrongIdKind) as refused:
            decode_id("po", text)

        assert isinstance(refused.value, NotFound)
        assert refused.value.code == "not_found"

    @pytest.mark.django_db
    @pytest.mark.parametrize("id_", [UUID(int=0), LARGEST, UUID(int=1 << 127), new_id()])
    def test_is_the_same_in_sql(self, id_):
        with connection.cursor() as cursor:
            cursor.execute("SELECT kassa_public_id('po', %s)", [id_])

            assert cursor.fetchone() == (encode_id("po", id_),)


class TestWhatIsNamedOften:
    @given(st.uuids())
    def test_is_printed_and_read_as_any_other(self, id_):
        for _ in range(2):
            printed = encode_often("la", id_.int)
            assert printed == encode_id("la", id_)
            assert decode_often("la", printed) == id_

    @pytest.mark.parametrize(
        ("text", "error"),
        [("la_junk", MalformedId), (encode_id("je", LARGEST), WrongIdKind)],
    )
    def test_is_refused_each_time(self, text, error):
        for _ in range(2):
            with pytest.raises(error):
                decode_often("la", text)
