"""What the back office itself keeps: figures for its charts, and whether the invariants held."""

from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from apps.backoffice import queries
from apps.backoffice.models import DailyMetric, InvariantCheck
from apps.core import invariants, transactions
from apps.core.ids import new_ids

log = structlog.stdlib.get_logger("kassa.backoffice")

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


def check_invariants(*, now: datetime) -> InvariantCheck:
    """
    Run every app's invariants and keep which of them did not hold.

    They are read one by one and no transaction is open round them all: each is a statement that
    sees one snapshot, and a run over large tables must not hold an old one.
    """
    statements = invariants.collect()
    broken = [name for name, breach in invariants.check(statements) if breach is not None]
    if broken:
        log.error("invariants_broken", names=broken)
    return _keep_check(now=now, statement_count=len(statements), broken=broken)


@transactions.outermost
def _keep_check(*, now: datetime, statement_count: int, broken: list[str]) -> InvariantCheck:
    return InvariantCheck.objects.create(
        checked_at=now, statement_count=statement_count, broken=broken
    )


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
