"""The days on which banks settle."""

from dataclasses import dataclass
from datetime import date, timedelta

from apps.banking import errors
from apps.banking.models import CalendarDay
from apps.banking.rules import OpenDays


@dataclass(frozen=True, slots=True)
class BankCalendar:
    """The open days of T2 as seeded; it answers for no other year."""

    days: OpenDays

    def is_open(self, day: date) -> bool:
        """
        Say whether banks settle on this day.

        :raises CalendarNotSeeded: if its year was never seeded
        """
        if day.year not in self.days.years:
            raise errors.CalendarNotSeeded(
                "The bank holidays of this year are not known.", year=day.year
            )
        return day.isoweekday() <= 5 and day not in self.days.holidays  # noqa: PLR2004  (Friday)

    def next_open(self, day: date) -> date:
        """
        Return the first open day from this one on, itself included.

        :raises CalendarNotSeeded: if a year on the way was never seeded
        """
        while not self.is_open(day):
            day += timedelta(days=1)
        return day


def get_open_days() -> BankCalendar:
    """Return the seeded calendar; about six rows a year."""
    return BankCalendar(OpenDays(frozenset(CalendarDay.objects.values_list("day", flat=True))))
