"""Which day a payout leaves: the bank's cut-off, in the bank's zone, on the bank's open days."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from apps.core.wall_clock import day_of, first_instant_at

type IsOpen = Callable[[date], bool]


@dataclass(frozen=True, kw_only=True)
class CutOff:
    """A wall-clock time in an IANA zone; what arrives exactly then is late."""

    at: time
    zone: str

    def instant_on(self, day: date) -> datetime:
        """Return the instant (UTC) of the cut-off on this day, clock changes included."""
        return first_instant_at(day=day, at=self.at, zone=self.zone)


def execution_date(
    *, now: datetime, cut_off: CutOff, is_open: IsOpen, wished: date | None = None
) -> date:
    """
    Return the open day on which a payout ready at `now` can leave.

    `now` before the cut-off of an open day is that day; a wished later date is taken if it is open,
    else the next open day. A wished date already past asks for nothing.

    :raises LookupError: from `is_open`, where the calendar is not known (never taken as open)
    """
    today = day_of(instant=now, zone=cut_off.zone)
    in_time = is_open(today) and now < cut_off.instant_on(today)
    earliest = today if in_time else next_open_day(after=today, is_open=is_open)
    if wished is None or wished <= earliest:
        return earliest
    return wished if is_open(wished) else next_open_day(after=wished, is_open=is_open)


def next_open_day(*, after: date, is_open: IsOpen) -> date:
    """Return the first open day later than `after`."""
    day = after + timedelta(days=1)
    while not is_open(day):
        day += timedelta(days=1)
    return day


def is_freeze_due(*, execution_day: date, now: datetime, cut_off: CutOff) -> bool:
    """Say whether the batch of this day closes now: at its cut-off, not a moment before."""
    return now >= cut_off.instant_on(execution_day)


def missed_its_day(*, execution_day: date, now: datetime, cut_off: CutOff) -> bool:
    """Say whether the day is over at the bank: a file that asks for a past day is refused there."""
    return day_of(instant=now, zone=cut_off.zone) > execution_day
