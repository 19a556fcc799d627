"""Batches that have no row yet: scheduled payouts, by what those of one batch have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final
from uuid import UUID

from django.db.models import Count, QuerySet, Sum

from apps.payouts.models import Payout
from apps.payouts.states import PayoutState

_KEY_COLUMNS: Final = ("organization_id", "bank_account_id", "currency", "rail", "execution_date")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchKey:
    """What payouts of one batch have in common."""

    organization_id: UUID
    bank_account_id: UUID
    currency: str
    rail: str
    execution_date: date


def lock_scheduled(*, key: BatchKey, limit: int) -> Sequence[Payout]:
    """
    Return the scheduled payouts of a batch key, locked in ascending order.

    A cancel that holds a payout's lock is waited for; what it canceled is no longer scheduled
    when Postgres looks at the row again, and is left out.
    """
    rows = Payout.objects.select_for_update(no_key=True).filter(
        organization_id=key.organization_id,
        bank_account_id=key.bank_account_id,
        currency=key.currency,
        rail=key.rail,
        execution_date=key.execution_date,
        state=PayoutState.SCHEDULED,
    )
    return list(rows.order_by("id")[:limit])


def list_batch_keys(*, until: date, organization_id: UUID | None = None) -> Sequence[BatchKey]:
    """Return the keys of every open batch whose day is `until` or earlier, oldest day first."""
    scheduled = Payout.objects.filter(state=PayoutState.SCHEDULED, execution_date__lte=until)
    if organization_id is not None:
        scheduled = scheduled.filter(organization_id=organization_id)
    rows = scheduled.order_by("execution_date").values(*_KEY_COLUMNS).distinct()
    return [BatchKey(**row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBatch:
    """A batch that has no row yet: what would be frozen now, whose, and from which account."""

    key: BatchKey
    organization: str
    bank_account: str
    count: int
    total_minor: int


def preview_batches(*, scheduled: QuerySet[Payout], limit: int) -> Sequence[OpenBatch]:
    """Return the open batches of those of these payouts that are scheduled, oldest day first."""
    rows = (
        scheduled.filter(state=PayoutState.SCHEDULED)
        .values(*_KEY_COLUMNS, "organization__name", "bank_account__name")
        .annotate(count=Count("id"), total=Sum("amount_minor"))
        .order_by("execution_date", *_KEY_COLUMNS[:-1])
    )
    return [
        OpenBatch(
            key=BatchKey(**{name: row[name] for name in _KEY_COLUMNS}),
            organization=row["organization__name"],
            bank_account=row["bank_account__name"],
            count=row["count"],
            total_minor=row["total"],
        )
        for row in rows[:limit]
    ]
