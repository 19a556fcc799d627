import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.banking.formats import references
from apps.core.proven import blank_proven

OURS = references.make_reference(4_711)
OTHER = references.make_reference(4_712)
grouped = st.lists(st.sampled_from(["", " ", "\n", "  "]), min_size=16, max_size=16)


class TestMaking:
    @given(st.integers(0, 10**references.BODY_DIGITS - 1))
    def test_gives_digits_only_and_right_check_digits(self, body):
        reference = references.make_reference(body)

        assert reference[2:].isdigit()
        assert len(reference) == 4 + references.BODY_DIGITS
        assert references.is_valid(reference)
        assert blank_proven(reference) == "#" * len(reference)

    @pytest.mark.parametrize(
        "wrong",
        [
            "RF98123456789012",
            "RF1853900754703",
            "RF",
            "rf18539007547034",
            "RF18 5390 0754 7034",
            "",
        ],
    )
    def test_wrong_ones_are_none(self, wrong):
        assert not references.is_valid(wrong)


class TestReading:
    def test_takes_the_structured_field_first(self):
        found = references.places([f" {OURS.lower()} "], [OTHER])

        assert references.choose(found, {OURS, OTHER}).reference == OURS

    def test_reads_free_text_where_the_field_holds_none(self):
        found = references.places(["00000000000000001245"], [f"Invoice {OURS}, thank you"])

        assert references.choose(found, {OURS}).reference == OURS

    @given(gaps=grouped, before=st.sampled_from(["", "Inv. ", "ref:", "X"]))
    def test_finds_it_however_spaces_and_lines_break_it(self, gaps, before):
        broken = before + "".join(
            letter + gap for letter, gap in zip(OURS, [*gaps, " "], strict=True)
        )

        found = references.places([], [*broken.lower().split("\n"), "2026"])

        # "RF" and the two digits after it stand together: that is how a place is seen.
        if f"RF{OURS[2:4]}".lower() in broken.lower():
            assert references.choose(found, {OURS}).reference == OURS

    def test_two_valid_ones_are_ambiguous_whoever_s_they_are(self):
        found = references.places([], [f"{OURS} and {OTHER}"])

        assert references.choose(found, {OURS}).reason == "ambiguous"

    def test_the_same_twice_is_one(self):
        found = references.places([], [OURS, OURS])

        assert references.choose(found, {OURS}).reference == OURS

    def test_unknown_and_none_are_told_apart(self):
        assert references.choose(references.places([OTHER], []), {OURS}).reason == "unknown"
        assert (
            references.choose(references.places([], ["RF98123456789012"]), {OURS}).reason == "none"
        )
        assert references.choose((), {OURS}).reason == "none"

    @given(st.lists(st.text(max_size=60), max_size=4))
    def test_no_text_breaks_it(self, texts):
        for place in references.places([], texts):
            assert all(references.is_valid(reading) for reading in place)
