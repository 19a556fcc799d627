"""Months: those of UTC that totals are kept by, and those of an organisation that are closed."""

import calendar
import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

# Of business time: a year that somebody can have meant, and that every tool can read.
YEAR_MIN: Final = 1970
YEAR_MAX: Final = 2199
# Those years are of UTC: in other zones they begin in one month more, or end in one.
_FIRST: Final = date(YEAR_MIN - 1, 12, 1)
_LAST: Final = date(YEAR_MAX + 1, 1, 1)
_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)


def parse_month(text: str) -> date | None:
    """Return the first day of a month written as 2026-06, or None where nobody meant one."""
    match = _MONTH.fullmatch(text)
    if match is None or not _FIRST.year <= int(match[1]) <= _LAST.year:
        return None
    month = date(int(match[1]), int(match[2]), 1)
    return month if _FIRST <= month <= _LAST else None


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
