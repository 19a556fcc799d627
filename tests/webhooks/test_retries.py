from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.webhooks.errors import UnknownEventType
from apps.webhooks.rules import retries, subscriptions
from apps.webhooks.rules.retries import Health, Outcome

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
# What the database's clock says then.
THERE = NOW - timedelta(minutes=10)


def after_attempt(health, *, outcome, circuit_openings=None, at=NOW):
    """The health after an attempt at `at`; decided on as the circuit is, unless it is said."""
    return retries.after_attempt(
        health,
        retries.ended_here(delivery_id=UUID(int=1), number=1, outcome=outcome, now=at),
        circuit_openings=health.circuit_openings if circuit_openings is None else circuit_openings,
        database_now=THERE,
    )


# Like HTTP dates: each part is one that is right, or none that a calendar has.
_NUMBERS = st.one_of(st.integers(0, 3000), st.integers(-(10**20), 10**20)).map(str)
HOSTILE_DATES = st.builds(
    "{} {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["", "Mon,", "Mon, ", "Monday,", "x,"]),
    _NUMBERS,
    st.sampled_from(["Jan", "Dec", "", "0", "x"]),
    _NUMBERS,
    *(_NUMBERS, _NUMBERS, _NUMBERS),
    st.one_of(st.sampled_from(["GMT", "", "-0000", "x"]), _NUMBERS, _NUMBERS.map("+{}".format)),
)


def delay(attempts, outcome=Outcome.SERVER_ERROR, retry_after="", jitter=0.0):
    return retries.next_delay_seconds(
        attempts=attempts, outcome=outcome, retry_after=retry_after, now=NOW, jitter=jitter
    )


class TestNextDelay:
    def test_follows_the_table_and_ends(self):
        delays = [delay(attempts) for attempts in range(1, 10)]

        assert delays == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
        assert round(sum(delays) / 3600, 1) == 75.6
        assert delay(10) is None

    @pytest.mark.parametrize("attempts", range(1, 10))
    @pytest.mark.parametrize("jitter", [-1, -0.5, 0, 0.5, 1])
    def test_is_up_to_a_fifth_shorter_or_longer(self, attempts, jitter):
        assert delay(attempts, jitter=jitter) == pytest.approx(delay(attempts) * (1 + jitter / 5))

    def test_is_drawn_anew_each_time_from_all_of_that(self):
        # Of so many, that none is in one of the fifths of the range has odds of 1 to 10^38.
        drawn = [delay(1, jitter=None) for _ in range(400)]

        assert all(4 <= each <= 6 for each in drawn)
        assert {int((each - 4) / 0.4) for each in drawn} >= {0, 1, 2, 3, 4}

    @pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.RATE_LIMITED])
    def test_leaves_a_busy_receiver_a_minute_whatever_it_asks(self, outcome):
        assert delay(1, outcome) == 60
        assert delay(1, outcome, retry_after="1") == 60
        assert delay(2, outcome) == 300

    @pytest.mark.parametrize(
        ("retry_after", "expected"),
        [
            ("400", 400),
            ("1", 300),
            ("9000", 600),
            ("Mon, 02 Nov 2026 12:07:00 GMT", 420),
            ("Mon, 02 Nov 2020 12:07:00 GMT", 300),
            ("soon", 300),
            ("-5", 300),
            ("9" * 30, 300),
            ("٣", 300),
            (f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT", 300),
            (f"Mon, {'9' * 20} Jan 2026 00:00:00 GMT", 300),
            (f"Mon, 01 Jan 2026 00:00:00 +{'9' * 20}", 300),
            ("Fri, 31 Dec 9999 23:59:59 -2359", 600),
            ("Mon, 01 Jan 0001 00:00:00 +2359", 300),
        ],
    )
    def test_waits_as_asked_between_once_and_twice_the_delay(self, retry_after, expected):
        assert delay(2, retry_after=retry_after) == expected

    @given(st.one_of(st.text(max_size=100), HOSTILE_DATES), st.integers(1, 9))
    def test_reads_whatever_a_stranger_writes(self, retry_after, attempts):
        step = delay(attempts)

        assert step <= delay(attempts, retry_after=retry_after) <= 2 * step


class TestOutcomeOfStatus:
    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            (200, Outcome.SUCCEEDED),
            (299, Outcome.SUCCEEDED),
            (300, Outcome.REDIRECTED),
            (302, Outcome.REDIRECTED),
            (399, Outcome.REDIRECTED),
            (400, Outcome.REFUSED),
            (499, Outcome.REFUSED),
            (410, Outcome.GONE),
            (429, Outcome.RATE_LIMITED),
            (500, Outcome.SERVER_ERROR),
            (599, Outcome.SERVER_ERROR),
            (199, Outcome.PROTOCOL_ERROR),
            (101, Outcome.PROTOCOL_ERROR),
            (600, Outcome.PROTOCOL_ERROR),
        ],
    )
    def test_depends_on_nothing_else(self, status, outcome):
        assert retries.outcome_of_status(status) is outcome


class TestCircuit:
    def failed(self, health, times, outcome=Outcome.TIMEOUT):
        for _ in range(times):
            health = after_attempt(health, outcome=outcome)
        return health

    def test_opens_after_five_in_a_row_and_doubles_to_a_quarter_of_an_hour(self):
        assert self.failed(Health(), 4).circuit_open_until is None
        waits = [self.failed(Health(), n).circuit_open_until - THERE for n in (5, 6, 7, 9, 10, 500)]

        assert [wait.total_seconds() for wait in waits] == [30, 60, 120, 480, 900, 900]

    def test_is_left_alone_by_what_began_before_it_opened(self):
        """Lanes that time out together are one outage."""
        opened = self.failed(Health(), 5)

        late = opened
        for outcome in (Outcome.TIMEOUT, Outcome.CONNECT_ERROR, Outcome.SERVER_ERROR):
            late = after_attempt(late, outcome=outcome, circuit_openings=0)

        assert late == opened
        good = after_attempt(opened, outcome=Outcome.SUCCEEDED, circuit_openings=0)
        assert good == replace(opened, first_failure_at=None)

    def test_closes_with_any_answer(self):
        opened = self.failed(Health(), 7)

        answered = after_attempt(opened, outcome=Outcome.SERVER_ERROR)

        assert answered == Health(first_failure_at=NOW)
        assert after_attempt(opened, outcome=Outcome.SUCCEEDED) == Health()

    @pytest.mark.parametrize("outcome", [Outcome.DNS_ERROR, Outcome.BLOCKED_ADDRESS])
    def test_is_left_as_it_is_where_nobody_was_asked(self, outcome):
        opened = self.failed(Health(), 7)

        assert self.failed(opened, 3, outcome) == opened
        four = self.failed(self.failed(Health(), 4), 3, outcome)
        assert four == self.failed(Health(), 4)
        assert self.failed(four, 1).circuit_open_until is not None
        assert self.failed(Health(), 50, outcome) == Health(first_failure_at=NOW)

    def test_is_not_opened_by_answers(self):
        assert self.failed(Health(), 50, Outcome.SERVER_ERROR).circuit_open_until is None


class TestDisableRule:
    @pytest.mark.parametrize(
        ("hours", "events", "expected"),
        [(121, 10, True), (121, 9, False), (120, 10, False), (119, 500, False)],
    )
    def test_takes_both_long_and_many(self, hours, events, expected):
        health = Health(first_failure_at=NOW - timedelta(hours=hours))

        assert retries.is_failing_for_good(health, failed_events=events, now=NOW) is expected

    def test_goes_back_to_where_the_first_failed_attempt_began(self):
        began = [NOW, NOW - timedelta(seconds=14), NOW + timedelta(hours=1)]
        health = Health()

        for at in began:
            health = after_attempt(health, outcome=Outcome.SERVER_ERROR, at=at)

        assert health.first_failure_at == NOW - timedelta(seconds=14)

    def test_starts_again_after_one_success(self):
        health = Health(first_failure_at=NOW - timedelta(hours=119))

        health = after_attempt(health, outcome=Outcome.SUCCEEDED)

        later = NOW + timedelta(hours=2)
        assert not retries.is_failing_for_good(health, failed_events=50, now=later)


class TestSlow:
    def test_moves_with_a_gap_between_the_marks(self):
        assert not retries.is_slow([2000] * 20, was_slow=False)
        assert retries.is_slow([2001] * 20, was_slow=False)
        assert not retries.is_slow([1500] * 20, was_slow=False)
        assert retries.is_slow([1500] * 20, was_slow=True)
        assert retries.is_slow([1000] * 20, was_slow=True)
        assert not retries.is_slow([999] * 20, was_slow=True)

    def test_is_known_of_fewer_if_no_others_could_change_it(self):
        assert not retries.is_slow([15_000] * 2, was_slow=False)
        assert retries.is_slow([15_000] * 3, was_slow=False)
        assert not retries.is_slow([2105] * 19, was_slow=False)
        # What those that follow will be like is not known: it stays where it is.
        assert retries.is_slow([10] * 19, was_slow=True)


class TestSubscriptions:
    @pytest.mark.parametrize(
        ("event_types", "expected"),
        [
            (["*"], True),
            (["payout.*"], True),
            (["payout.returned"], True),
            (["payout.settled", "transfer.*"], False),
            (["pay.*"], False),
        ],
    )
    def test_match_by_type_noun_or_all(self, event_types, expected):
        assert subscriptions.is_subscribed(event_types, "payout.returned") is expected

    @pytest.mark.parametrize("unknown", ["payout.unheard_of", "nothing.*", "payout*", "**", ""])
    def test_are_refused_when_they_can_never_match(self, unknown):
        with pytest.raises(UnknownEventType):
            subscriptions.check_event_types(["*", unknown], known={"payout.returned"})

    @given(st.text(), st.integers(1, 8))
    def test_keep_an_aggregate_on_one_lane(self, aggregate_id, lanes):
        key = subscriptions.lane_key(aggregate_id)

        assert 0 <= subscriptions.lane_of(key, lanes=lanes) < lanes
        assert key == subscriptions.lane_key(aggregate_id)
