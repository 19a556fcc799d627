"""Months: those of UTC that totals are kept by, and those of an organisation that are closed."""

import calendar
from datetime import UTC, date, datetime, timedelta


def first_of(day: date) -> date:
    """Return the first day of a day's month."""
    return day.replace(day=1)


def next_month(month: date) -> date:
    """Return the first day of the month after the one that begins on `month`."""
    return month + timedelta(days=calendar.monthrange(month.year, month.month)[1])


def nearest_boundary(at: datetime) -> datetime:
    """Return the first instant of a UTC month that lies nearest: a sum goes on or back from it."""
    start = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = datetime.combine(next_month(start.date()), start.timetz())
    return start if at - start <= following - at else following
