"""Figures for charts: money of each day, payouts by state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from django.db.models import Q, Sum

from apps.accounts.models import Organization
from apps.backoffice.models import DailyMetric
from apps.banking.models import BankLine
from apps.payouts.models import Payout
from apps.payouts.states import PayoutState


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one day."""

    day: date
    name: str
    currency: str
    value: int


def list_organization_ids() -> list[UUID]:
    """Return every organization's id."""
    return list(Organization.objects.order_by("id").values_list("id", flat=True))


def list_touched_days(*, organization_id: UUID, since: datetime) -> list[date]:
    """Return the booking days of the lines that were imported since then."""
    # Ids are UUIDv7: those of a time on are a range of the primary key.
    lines = BankLine.objects.filter(
        organization_id=organization_id, id__gte=_first_id(since), is_booked=True
    )
    return sorted(set(lines.order_by().values_list("booking_date", flat=True).distinct()))


def _first_id(at: datetime) -> UUID:
    return UUID(int=int(at.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62)


def count_money(*, organization_id: UUID, days: Sequence[date]) -> list[Figure]:
    """Return what the bank booked in and out on these days, per currency."""
    lines = BankLine.objects.filter(
        organization_id=organization_id,
        booking_date__in=days,
        is_booked=True,
        source="statement",
    )
    summed = lines.values("booking_date", "currency").annotate(
        money_in=Sum("amount_minor", filter=Q(amount_minor__gt=0), default=0),
        money_out=Sum("amount_minor", filter=Q(amount_minor__lt=0), default=0),
    )
    return [
        Figure(row["booking_date"], name, row["currency"], int(value))
        for row in summed.order_by("booking_date", "currency")
        for name, value in (("money_in", row["money_in"]), ("money_out", -row["money_out"]))
    ]


@dataclass(frozen=True, slots=True)
class DayOfMoney:
    """What came in and went out on one day, in minor units."""

    day: date
    money_in: int
    money_out: int


def list_money(
    *, organization_ids: Sequence[UUID], today: date, days: int
) -> dict[str, list[DayOfMoney]]:
    """Return each day's money per currency, the currency that moved most first, gaps as zero."""
    first = today - timedelta(days=days - 1)
    rows = (
        DailyMetric.objects.filter(
            organization_id__in=organization_ids, day__gte=first, day__lte=today
        )
        .values_list("currency", "day", "name")
        .annotate(total=Sum("value"))
        .order_by()
    )
    found: dict[str, dict[tuple[date, str], int]] = {}
    for currency, day, name, total in rows:
        found.setdefault(currency, {})[day, name] = total
    span = [first + timedelta(days=n) for n in range(days)]
    by_size = sorted(found.items(), key=lambda item: -sum(item[1].values()))
    return {
        currency: [
            DayOfMoney(day, of.get((day, "money_in"), 0), of.get((day, "money_out"), 0))
            for day in span
        ]
        for currency, of in by_size
    }


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many payouts are in a state, and how much per currency."""

    state: str
    number: int
    sums: Mapping[str, int]


PAYOUTS_COUNTED_MAX: Final = 10_000


def count_payout_states(
    *, organization_ids: Sequence[UUID], since: datetime
) -> tuple[list[StateCount], bool]:
    """Return the payouts asked for since then by state; true if only the newest were counted."""
    rows = Payout.objects.filter(organization_id__in=organization_ids, id__gte=_first_id(since))
    newest = rows.order_by("-id").values_list("state", "currency", "amount_minor")
    found: dict[str, dict[str, int]] = {}
    numbers: dict[str, int] = {}
    counted = 0
    for state, currency, amount in newest[: PAYOUTS_COUNTED_MAX + 1]:
        counted += 1
        numbers[state] = numbers.get(state, 0) + 1
        sums = found.setdefault(state, {})
        sums[currency] = sums.get(currency, 0) + amount
    order = [state.value for state in PayoutState]
    states = [
        StateCount(state, numbers[state], found[state])
        for state in sorted(numbers, key=order.index)
    ]
    return states, counted > PAYOUTS_COUNTED_MAX
