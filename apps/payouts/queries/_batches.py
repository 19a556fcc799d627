"""Frozen batches, and what their ids mean."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from django.db.models import QuerySet

from apps.payouts.errors import BatchNotFound
from apps.payouts.models import PayoutBatch


def get_batch(*, organization_id: UUID, batch_id: UUID) -> PayoutBatch:
    """
    Return one batch, unlocked.

    :raises BatchNotFound: if the organization has no such batch
    """
    found = PayoutBatch.objects.filter(organization_id=organization_id, id=batch_id).first()
    if found is None:
        raise BatchNotFound("There is no such batch.")
    return found


def get_batch_for_update(*, organization_id: UUID, batch_id: UUID) -> PayoutBatch:
    """
    Return one batch, locked; batches are locked before their payouts.

    :raises BatchNotFound: if the organization has no such batch
    """
    # Sender, janitor, inbox and statement import all take this lock and look again: one wins.
    found = (
        PayoutBatch.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=batch_id)
        .first()
    )
    if found is None:
        raise BatchNotFound("There is no such batch.")
    return found


def lock_batches(*, organization_id: UUID, batch_ids: Collection[UUID]) -> dict[UUID, PayoutBatch]:
    """Return these batches by id, locked in ascending order."""
    # Before their payouts, as everywhere.
    rows = PayoutBatch.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id, id__in=batch_ids
    )
    return {row.id: row for row in rows.order_by("id")}


def list_batches(*, organization_id: UUID) -> QuerySet[PayoutBatch]:
    """Return the organization's batches, newest first."""
    return PayoutBatch.objects.filter(organization_id=organization_id).order_by("-id")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """A batch as other apps see it; the total in minor units."""

    batch_id: UUID
    bank_account_id: UUID
    state: str
    total_minor: int
    currency: str
    execution_date: date


def find_batches(*, organization_id: UUID, references: Collection[str]) -> dict[str, BatchView]:
    """Return the batches that these payment or message ids name, by the id that named them."""
    wanted = frozenset(references)
    rows = PayoutBatch.objects.filter(organization_id=organization_id)
    found: dict[str, BatchView] = {}
    for row in (
        *rows.filter(message_id__in=wanted),
        *rows.filter(payment_information_id__in=wanted),
    ):
        view = BatchView(
            batch_id=row.id,
            bank_account_id=row.bank_account_id,
            state=row.state,
            total_minor=row.total_minor,
            currency=row.currency,
            execution_date=row.execution_date,
        )
        found.update(
            {name: view for name in (row.message_id, row.payment_information_id) if name in wanted}
        )
    return found
