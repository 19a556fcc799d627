"""Seeding the calendar of bank holidays."""

from datetime import datetime
from typing import Final

import holidays

from apps.banking.models import CalendarDay
from apps.core import transactions

YEARS_BACK: Final = 1
YEARS_AHEAD: Final = 5


@transactions.outermost
def seed_calendar(*, now: datetime) -> int:
    """
    Add the T2 holidays of last year to the fifth from now; return how many were missing.

    Days that stand are left as they are: the past stays reproducible.
    """
    return seed_missing_years(now=now)


@transactions.required
def seed_missing_years(*, now: datetime) -> int:
    """Add the holidays of years that have none yet, within a larger operation."""
    wanted = range(now.year - YEARS_BACK, now.year + YEARS_AHEAD + 1)
    known = {day.year for day in CalendarDay.objects.values_list("day", flat=True)}
    missing = [year for year in wanted if year not in known]
    if not missing:
        return 0
    # The days of TARGET2 and T2 as the European Central Bank publishes them.
    found = holidays.financial_holidays("XECB", years=missing)
    rows = [CalendarDay(day=day, name=name, seeded_at=now) for day, name in sorted(found.items())]
    CalendarDay.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)
