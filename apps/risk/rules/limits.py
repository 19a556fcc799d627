"""Hard limits: the window an instant falls in, what is left of it, and what an explanation says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from apps.core.wall_clock import day_bounds, day_of


class WindowKind(StrEnum):
    """The calendar windows a limit may have; the trailing ones come with the limits issue."""

    CALENDAR_DAY = "calendar_day"


@dataclass(frozen=True)
class Window:
    """A span of time, start inclusive, end exclusive, both UTC."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        return self.end - self.start


@dataclass(frozen=True, kw_only=True)
class LimitTerms:
    """What a limit says. None is no cap, 0 lets nothing pass; amounts in minor units."""

    limit_id: UUID
    currency: str
    window: WindowKind
    zone: str
    max_amount_minor: int | None
    max_count: int | None
    net_of_returns: bool


@dataclass(frozen=True)
class Usage:
    """What was counted in a window before this act."""

    amount_minor: int
    count: int


@dataclass(frozen=True, kw_only=True)
class LimitCheck:
    """One limit applied to one act, with everything needed to explain it months later."""

    terms: LimitTerms
    window: Window
    used: Usage
    requested_minor: int

    @property
    def remaining_minor(self) -> int | None:
        """What was left before this act, never below zero; None where the amount has no cap."""
        if self.terms.max_amount_minor is None:
            return None
        return max(0, self.terms.max_amount_minor - self.used.amount_minor)

    @property
    def remaining_count(self) -> int | None:
        if self.terms.max_count is None:
            return None
        return max(0, self.terms.max_count - self.used.count)

    @property
    def passes(self) -> bool:
        """Exactly reaching a limit passes, one unit more does not."""
        within_amount = self.remaining_minor is None or self.requested_minor <= self.remaining_minor
        within_count = self.remaining_count is None or self.remaining_count >= 1
        return within_amount and within_count

    @property
    def resets_at(self) -> datetime:
        return self.window.end


def window_at(*, instant: datetime, kind: WindowKind, zone: str) -> Window:
    """Return the window that holds this instant: for a calendar day, local midnight to the next."""
    match kind:
        case WindowKind.CALENDAR_DAY:
            return Window(*day_bounds(day=day_of(instant=instant, zone=zone), zone=zone))


def check(*, terms: LimitTerms, used: Usage, requested_minor: int, instant: datetime) -> LimitCheck:
    """Apply one limit to an act of `requested_minor` at `instant`, given what was used before."""
    return LimitCheck(
        terms=terms,
        window=window_at(instant=instant, kind=terms.window, zone=terms.zone),
        used=used,
        requested_minor=requested_minor,
    )


def binding(checks: Sequence[LimitCheck]) -> LimitCheck | None:
    """
    Return the refusing limit that binds: the lowest remaining, on a tie the shortest window.

    A limit whose count is used up leaves nothing, whatever its amount says. None if all pass.
    """
    refusing = [one for one in checks if not one.passes]
    return min(refusing, key=_tightness, default=None)


def _tightness(one: LimitCheck) -> tuple[int, timedelta, UUID]:
    left = 0 if one.remaining_count == 0 else one.remaining_minor or 0
    return left, one.window.length, one.terms.limit_id


def explain(one: LimitCheck) -> dict[str, str | int | None]:
    """Return the check as JSON values: what is stored, and what a refusal shows."""
    return {
        "id": str(one.terms.limit_id),
        "currency": one.terms.currency,
        "window": one.terms.window.value,
        "zone": one.terms.zone,
        "window_start": one.window.start.isoformat(),
        "window_end": one.window.end.isoformat(),
        "max": one.terms.max_amount_minor,
        "used": one.used.amount_minor,
        "requested": one.requested_minor,
        "remaining": one.remaining_minor,
        "max_count": one.terms.max_count,
        "used_count": one.used.count,
        "resets_at": one.resets_at.isoformat(),
    }
