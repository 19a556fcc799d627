"""Attempts: of a payout, of a batch, and by the id the bank sends back."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from apps.payouts.models import Payout, PayoutAttempt


def list_attempts(*, organization_id: UUID, payout_id: UUID) -> Sequence[PayoutAttempt]:
    """Return a payout's attempts, oldest first."""
    return list(
        PayoutAttempt.objects.filter(organization_id=organization_id, payout_id=payout_id).order_by(
            "id"
        )
    )


def list_batch_attempts(
    *, organization_id: UUID, batch_id: UUID, payout_ids: Collection[UUID] | None = None
) -> Sequence[PayoutAttempt]:
    """Return a batch's attempts, of all or these payouts, in file order; their locks protect it."""
    rows = PayoutAttempt.objects.filter(organization_id=organization_id, batch_id=batch_id)
    if payout_ids is not None:
        rows = rows.filter(payout_id__in=payout_ids)
    return list(rows.order_by("number_in_file"))


def list_attempts_by_id(
    *, organization_id: UUID, attempt_ids: Collection[UUID]
) -> Sequence[PayoutAttempt]:
    """Return these attempts, in ascending order."""
    return list(
        PayoutAttempt.objects.filter(organization_id=organization_id, id__in=attempt_ids).order_by(
            "id"
        )
    )


def attempts_of(
    *, organization_id: UUID, payout_ids: Iterable[UUID]
) -> dict[UUID, list[PayoutAttempt]]:
    """Return all attempts of these payouts, oldest first within each."""
    found: dict[UUID, list[PayoutAttempt]] = {}
    rows = PayoutAttempt.objects.filter(
        organization_id=organization_id, payout_id__in=list(payout_ids)
    )
    for row in rows.order_by("id"):
        found.setdefault(row.payout_id, []).append(row)
    return found


def payouts_in_batches(*, organization_id: UUID, batch_ids: Collection[UUID]) -> set[UUID]:
    """Return the ids of the payouts that have an attempt in one of these batches."""
    rows = PayoutAttempt.objects.filter(organization_id=organization_id, batch_id__in=batch_ids)
    return set(rows.values_list("payout_id", flat=True))


def creditor_references(*, organization_id: UUID, batch_id: UUID) -> dict[UUID, str]:
    """Return the creditor references of a batch's payouts, by payout; most have none."""
    attempts = PayoutAttempt.objects.filter(organization_id=organization_id, batch_id=batch_id)
    rows = Payout.objects.filter(
        organization_id=organization_id, id__in=attempts.values("payout_id")
    ).exclude(creditor_reference="")
    return dict(rows.values_list("id", "creditor_reference"))


def has_open_attempts(*, organization_id: UUID, batch_id: UUID) -> bool:
    """Say whether an attempt of a batch may still change by a word of the bank."""
    return PayoutAttempt.objects.filter(
        organization_id=organization_id,
        batch_id=batch_id,
        state__in=["created", "batched", "submitted", "unknown"],
    ).exists()


def count_code(*, organization_id: UUID, destination_id: UUID, codes: Collection[str]) -> int:
    """Return how many attempts to a destination ended with one of these codes."""
    return PayoutAttempt.objects.filter(
        organization_id=organization_id,
        destination_version__destination_id=destination_id,
        reason_code__in=codes,
    ).count()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """An attempt as other apps see it; amounts in minor units."""

    attempt_id: UUID
    payout_id: UUID
    batch_id: UUID
    bank_account_id: UUID
    state: str
    amount_minor: int
    currency: str
    end_to_end_id: str
    execution_date: date


def find_attempts(
    *, organization_id: UUID, end_to_end_ids: Collection[str]
) -> dict[str, AttemptView]:
    """Return what these end-to-end ids mean, unlocked; one that is nobody's is missing."""
    rows = PayoutAttempt.objects.select_related("batch").filter(
        organization_id=organization_id, end_to_end_id__in=end_to_end_ids
    )
    return {
        row.end_to_end_id: AttemptView(
            attempt_id=row.id,
            payout_id=row.payout_id,
            batch_id=row.batch_id,
            bank_account_id=row.batch.bank_account_id,
            state=row.state,
            amount_minor=row.amount_minor,
            currency=row.currency,
            end_to_end_id=row.end_to_end_id,
            execution_date=row.batch.execution_date,
        )
        for row in rows
    }


def find_attempt(*, organization_id: UUID, end_to_end_id: str) -> AttemptView | None:
    """Return what this end-to-end id means, unlocked, or None."""
    found = find_attempts(organization_id=organization_id, end_to_end_ids=[end_to_end_id])
    return found.get(end_to_end_id)
