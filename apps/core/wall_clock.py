"""Instants as they are printed, and as wall-clock times of a zone: they survive clock changes."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_OFFSET_LENGTH = len("+00:00")


def first_instant_at(*, day: date, at: time, zone: str) -> datetime:
    """
    Return the first instant (UTC) at which the clocks of `zone` show `at` on `day`.

    Where that time happens twice the first one counts; where the clocks jump over it, the instant
    after the gap.

    :raises zoneinfo.ZoneInfoNotFoundError: if the zone is not an IANA name
    """
    zone_info = ZoneInfo(zone)
    # Which of two times the value itself would name (PEP 495) is decided here.
    wall = datetime.combine(day, at.replace(fold=0), tzinfo=zone_info)
    instant = wall.astimezone(UTC)
    if instant.astimezone(zone_info).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return instant
    return _end_of_gap(before=wall.replace(fold=1).astimezone(UTC), after=instant, zone=zone_info)


def print_instant(instant: datetime) -> str:
    """Return an instant as it leaves the house, in answers, events and files: UTC, with `Z`."""
    # Most are in UTC, and their offset is the end of the text.
    in_utc = instant if instant.tzinfo is UTC else instant.astimezone(UTC)
    return f"{in_utc.isoformat()[:-_OFFSET_LENGTH]}Z"


def wall_text(instant: datetime, *, zone: str) -> str:
    """Return what the clocks of `zone` show at this instant, and whose clocks they are."""
    return f"{instant.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S} {zone}"


def day_of(*, instant: datetime, zone: str) -> date:
    """Return the calendar day that the clocks of `zone` show at this instant."""
    return instant.astimezone(ZoneInfo(zone)).date()


def day_bounds(*, day: date, zone: str) -> tuple[datetime, datetime]:
    """Return local midnight and the next one: start inclusive, end exclusive, 23 to 25 hours."""
    return (
        first_instant_at(day=day, at=time.min, zone=zone),
        first_instant_at(day=day + timedelta(days=1), at=time.min, zone=zone),
    )


def _end_of_gap(*, before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    # In a gap PEP 495 reads fold=1 with the later offset, so the two readings lie on either side of
    # the jump: halving the distance finds the second at which the offset changes.
    offset = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before).total_seconds() // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
