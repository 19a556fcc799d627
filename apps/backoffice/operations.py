"""The one write of the back office itself: the figures that its charts read."""

from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from apps.backoffice import queries
from apps.backoffice.models import DailyMetric
from apps.core import transactions
from apps.core.ids import new_ids

# Lines come in late: whatever day a line of these last days was booked on is counted afresh.
LOOK_BACK: Final = timedelta(days=2)


@transactions.outermost
def roll_up(*, organization_id: UUID, now: datetime) -> int:
    """
    Count again the days whose bank lines came in lately; return how many figures were written.

    Running it again writes the same. The figures are a copy: emptied, the next run of
    `roll_up_everything` brings back what the look-back covers, and `since` brings back the rest.
    """
    days = queries.list_touched_days(organization_id=organization_id, since=now - LOOK_BACK)
    return _write(organization_id=organization_id, days=days, now=now)


@transactions.outermost
def roll_up_since(*, organization_id: UUID, since: date, now: datetime) -> int:
    """Count again every day from `since` on, for a fresh installation or an emptied table."""
    days = [since + timedelta(days=n) for n in range((now.date() - since).days + 1)]
    return _write(organization_id=organization_id, days=days, now=now)


def _write(*, organization_id: UUID, days: list[date], now: datetime) -> int:
    figures = queries.count_money(organization_id=organization_id, days=days)
    rows = [
        DailyMetric(
            id=id_,
            organization_id=organization_id,
            day=figure.day,
            name=figure.name,
            currency=figure.currency,
            value=figure.value,
            rolled_up_at=now,
        )
        for id_, figure in zip(new_ids(len(figures)), figures, strict=True)
    ]
    DailyMetric.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["organization", "day", "name", "currency"],
        update_fields=["value", "rolled_up_at"],
    )
    return len(rows)
