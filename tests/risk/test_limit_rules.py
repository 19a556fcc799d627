from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.risk.rules import (
    LimitTerms,
    Usage,
    WindowKind,
    binding,
    check,
    explain,
    window_at,
)

NOON = datetime(2026, 11, 24, 11, tzinfo=UTC)
zones = st.sampled_from(
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Tokyo"]
)
instants = st.datetimes(
    min_value=datetime(2015, 1, 1),  # noqa: DTZ001  (hypothesis adds the zone)
    max_value=datetime(2040, 1, 1),  # noqa: DTZ001  (hypothesis adds the zone)
    timezones=st.just(UTC),
)


def terms(number=1, *, amount=500_00, count=None, zone="Europe/Berlin"):
    return LimitTerms(
        limit_id=UUID(int=number),
        currency="EUR",
        window=WindowKind.CALENDAR_DAY,
        zone=zone,
        max_amount_minor=amount,
        max_count=count,
        net_of_returns=True,
    )


def checked(limit, *, used=0, count=0, requested=1):
    return check(terms=limit, used=Usage(used, count), requested_minor=requested, instant=NOON)


class TestCheck:
    @pytest.mark.parametrize(
        ("used", "requested", "passes"),
        [(0, 500_00, True), (0, 500_01, False), (450_00, 50_00, True), (450_00, 90_00, False)],
    )
    def test_exactly_reaching_passes_and_one_more_does_not(self, used, requested, passes):
        assert checked(terms(), used=used, requested=requested).passes is passes

    def test_what_is_left_is_never_below_zero(self):
        assert checked(terms(), used=700_00).remaining_minor == 0

    @pytest.mark.parametrize(("count", "passes"), [(1, True), (2, False), (3, False)])
    def test_counts_acts_too(self, count, passes):
        assert checked(terms(amount=None, count=2), count=count).passes is passes

    def test_zero_lets_nothing_pass_and_none_everything(self):
        assert not checked(terms(amount=0)).passes
        assert checked(terms(amount=None), requested=10**13).passes

    @given(st.integers(0, 10**9), st.integers(1, 10**9))
    def test_passes_exactly_within_what_is_left(self, used, requested):
        one = checked(terms(), used=used, requested=requested)

        assert one.passes == (used + requested <= 500_00)


class TestBinding:
    def test_is_the_refusing_limit_with_the_least_left(self):
        wide = checked(terms(1, amount=100), requested=101)
        tight = checked(terms(2, amount=50), requested=101)
        passing = checked(terms(3, amount=101), requested=101)

        assert binding([wide, tight, passing]) is tight

    def test_a_used_up_count_leaves_nothing(self):
        amount = checked(terms(1, amount=10), requested=11)
        count = checked(terms(2, amount=None, count=1), count=1, requested=11)

        assert binding([amount, count]) is count

    def test_is_nothing_when_all_pass(self):
        assert binding([checked(terms())]) is None

    def test_is_explained_by_numbers_and_instants(self):
        assert explain(checked(terms(), used=450_00, requested=90_00)) == {
            "id": "00000000-0000-0000-0000-000000000001",
            "currency": "EUR",
            "window": "calendar_day",
            "zone": "Europe/Berlin",
            "window_start": "2026-11-23T23:00:00+00:00",
            "window_end": "2026-11-24T23:00:00+00:00",
            "max": 500_00,
            "used": 450_00,
            "requested": 90_00,
            "remaining": 50_00,
            "max_count": None,
            "used_count": 0,
            "resets_at": "2026-11-24T23:00:00+00:00",
        }


class TestWindow:
    @pytest.mark.parametrize(
        ("instant", "hours"),
        [
            (datetime(2026, 11, 24, 12, tzinfo=UTC), 24),
            (datetime(2026, 10, 25, 12, tzinfo=UTC), 25),
            (datetime(2027, 3, 28, 12, tzinfo=UTC), 23),
        ],
    )
    def test_a_day_has_as_many_hours_as_its_zone_gives_it(self, instant, hours):
        window = window_at(instant=instant, kind=WindowKind.CALENDAR_DAY, zone="Europe/Berlin")

        assert window.length == timedelta(hours=hours)

    @given(instants, zones)
    def test_holds_its_instant_and_ends_where_the_next_begins(self, instant, zone):
        def at(moment):
            return window_at(instant=moment, kind=WindowKind.CALENDAR_DAY, zone=zone)

        window = at(instant)

        assert window.start <= instant < window.end
        assert at(window.start) == at(window.end - timedelta(microseconds=1)) == window
        assert at(window.end).start == window.end
