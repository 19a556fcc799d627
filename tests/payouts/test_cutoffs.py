from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.wall_clock import day_bounds, day_of, first_instant_at
from apps.payouts.rules import (
    CutOff,
    execution_date,
    is_freeze_due,
    missed_its_day,
    next_open_day,
)

BERLIN = CutOff(at=time(16), zone="Europe/Berlin")
# T2 closing days of the years below (ECB: 1 Jan, Good Friday, Easter Monday, 1 May, 25 and 26 Dec).
T2 = {
    date(2026, 12, 25),
    date(2026, 12, 26),
    date(2027, 1, 1),
    date(2027, 3, 26),
    date(2027, 3, 29),
    date(2027, 5, 1),
}


def is_open(day):
    return day.weekday() < 5 and day not in T2


def berlin(text):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"))


class TestExecutionDate:
    @pytest.mark.parametrize(
        ("ready_at", "expected"),
        [
            ("2026-11-24T15:59:59", date(2026, 11, 24)),
            ("2026-11-24T16:00:00", date(2026, 11, 25)),
            ("2026-12-24T17:00:00", date(2026, 12, 28)),
            ("2027-03-25T17:00:00", date(2027, 3, 30)),
            ("2026-12-31T17:00:00", date(2027, 1, 4)),
            ("2026-11-28T09:00:00", date(2026, 11, 30)),
        ],
    )
    def test_is_the_first_open_day_whose_cut_off_is_ahead(self, ready_at, expected):
        assert execution_date(now=berlin(ready_at), cut_off=BERLIN, is_open=is_open) == expected

    @pytest.mark.parametrize(
        ("wished", "expected"),
        [
            (date(2026, 11, 20), date(2026, 11, 24)),
            (date(2026, 11, 27), date(2026, 11, 27)),
            (date(2026, 11, 28), date(2026, 11, 30)),
            (date(2026, 12, 25), date(2026, 12, 28)),
        ],
    )
    def test_takes_a_wished_day_or_the_next_open_one(self, wished, expected):
        now = berlin("2026-11-24T10:00:00")

        day = execution_date(now=now, cut_off=BERLIN, is_open=is_open, wished=wished)

        assert day == expected

    def test_never_takes_an_unknown_calendar_for_open(self):
        def unknown(day):
            raise LookupError(day)

        with pytest.raises(LookupError):
            execution_date(now=berlin("2040-01-02T10:00:00"), cut_off=BERLIN, is_open=unknown)

    @given(
        ready_at=st.datetimes(
            min_value=datetime(2026, 11, 1),  # noqa: DTZ001  (hypothesis adds the zone)
            max_value=datetime(2027, 11, 1),  # noqa: DTZ001  (hypothesis adds the zone)
            timezones=st.just(UTC),
        ),
        at=st.times(),
        zone=st.sampled_from(["Europe/Berlin", "Pacific/Auckland", "America/New_York"]),
    )
    def test_is_open_ahead_and_the_first_such(self, ready_at, at, zone):
        cut_off = CutOff(at=at, zone=zone)

        day = execution_date(now=ready_at, cut_off=cut_off, is_open=is_open)

        assert is_open(day)
        assert ready_at < cut_off.instant_on(day)
        today = day_of(instant=ready_at, zone=zone)
        between = [today + timedelta(days=n) for n in range((day - today).days)]
        assert not any(is_open(d) and ready_at < cut_off.instant_on(d) for d in between)


class TestClockChanges:
    def test_a_time_that_happens_twice_counts_the_first(self):
        # Clocks go from 03:00 CEST back to 02:00 CET on 25 October 2026.
        cut_off = CutOff(at=time(2, 30), zone="Europe/Berlin")

        assert cut_off.instant_on(date(2026, 10, 25)) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)

    def test_a_time_that_is_jumped_over_is_the_instant_after_the_gap(self):
        # Clocks go from 02:00 CET to 03:00 CEST on 28 March 2027, at 01:00 UTC.
        cut_off = CutOff(at=time(2, 30), zone="Europe/Berlin")

        assert cut_off.instant_on(date(2027, 3, 28)) == datetime(2027, 3, 28, 1, tzinfo=UTC)

    @pytest.mark.parametrize("day", [date(2026, 10, 25), date(2027, 3, 28)])
    def test_a_time_that_names_the_second_of_two_is_no_other_time(self, day):
        first, second = (
            first_instant_at(day=day, at=time(2, 30, fold=fold), zone="Europe/Berlin")
            for fold in (0, 1)
        )

        assert first == second

    def test_a_day_without_midnight_begins_after_the_gap(self):
        # Cairo goes from 24 April 2026 00:00 to 01:00.
        assert day_bounds(day=date(2026, 4, 24), zone="Africa/Cairo") == (
            datetime(2026, 4, 23, 22, tzinfo=UTC),
            datetime(2026, 4, 24, 21, tzinfo=UTC),
        )

    @given(
        day=st.dates(min_value=date(1990, 1, 1), max_value=date(2040, 1, 1)),
        at=st.times(),
        zone=st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo", "UTC"]),
    )
    def test_an_instant_shows_its_wall_time_or_ends_the_gap(self, day, at, zone):
        instant = first_instant_at(day=day, at=at, zone=zone)
        shown = instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)

        assert shown >= datetime.combine(day, at)
        before = (instant - timedelta(seconds=1)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        assert before < datetime.combine(day, at)


class TestFreeze:
    def test_is_due_at_the_cut_off_and_not_before(self):
        day = date(2026, 11, 24)

        due = [
            is_freeze_due(execution_day=day, now=berlin(text), cut_off=BERLIN)
            for text in ("2026-11-24T15:59:59", "2026-11-24T16:00:00", "2026-11-25T00:00:00")
        ]

        assert due == [False, True, True]

    def test_is_missed_once_the_bank_writes_another_day(self):
        day = date(2026, 11, 24)

        missed = [
            missed_its_day(execution_day=day, now=berlin(text), cut_off=BERLIN)
            for text in ("2026-11-24T23:59:59", "2026-11-25T00:00:00")
        ]

        assert missed == [False, True]

    def test_the_next_open_day_is_never_the_day_itself(self):
        assert next_open_day(after=date(2026, 11, 24), is_open=is_open) == date(2026, 11, 25)
