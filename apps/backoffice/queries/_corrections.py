"""Corrections of the books, and the approvals they wait for."""

from collections.abc import Collection
from uuid import UUID

from django.db.models import QuerySet

from apps.approvals.models import ApprovalRequest
from apps.backoffice.errors import CorrectionNotFound
from apps.backoffice.models import Correction
from apps.backoffice.states import CorrectionState
from apps.ledger.registry import ByHand


def get_correction(*, organization_id: UUID, correction_id: UUID) -> Correction:
    """
    Return one correction, unlocked.

    :raises CorrectionNotFound: if the organization has no such correction
    """
    found = Correction.objects.filter(organization_id=organization_id, id=correction_id).first()
    if found is None:
        raise CorrectionNotFound("There is no such correction.")
    return found


def get_correction_for_update(*, organization_id: UUID, correction_id: UUID) -> Correction:
    """
    Return one correction, locked.

    :raises CorrectionNotFound: if the organization has no such correction
    """
    # Serializes the decision about it with its being taken back.
    rows = Correction.objects.select_for_update(no_key=True)
    found = rows.filter(organization_id=organization_id, id=correction_id).first()
    if found is None:
        raise CorrectionNotFound("There is no such correction.")
    return found


def find_waiting_reversal(*, organization_id: UUID, entry_id: UUID) -> Correction | None:
    """Return what waits to undo this entry, if anything does."""
    return _waiting(organization_id, [entry_id]).first()


def find_approval_of_waiting_reversal(
    *, organization_id: UUID, entry_ids: Collection[UUID]
) -> UUID | None:
    """Return the approval that waits for one of these entries to be undone, if any does."""
    waiting = _waiting(organization_id, entry_ids).first()
    return find_approval_of(waiting) if waiting is not None else None


def find_posted_correction(
    *, organization_id: UUID, posted_id: UUID | None = None, undone_id: UUID | None = None
) -> ByHand | None:
    """
    Return who had an entry posted by hand, or else who had the other one undone, if people did.

    No index leads here: it reads the organization's corrections, each of which took two people.
    """
    # By one of them: without an id it is nobody's.
    named = {"entry_id": undone_id} if posted_id is None else {"posted_id": posted_id}
    found = Correction.objects.filter(
        organization_id=organization_id, state=CorrectionState.POSTED, **named
    ).first()
    if found is None or found.closed_at is None:
        return None
    return ByHand(
        found.id, found.requested_by, found.requested_at, found.approved_by, found.closed_at
    )


def _waiting(organization_id: UUID, entry_ids: Collection[UUID]) -> QuerySet[Correction]:
    return Correction.objects.filter(
        organization_id=organization_id,
        entry_id__in=list(entry_ids),
        state=CorrectionState.WAITING,
    ).order_by("id")


def corrections(*, organization_id: UUID, ids: Collection[UUID]) -> list[Correction]:
    """Return these corrections, each with its organisation."""
    rows = Correction.objects.filter(organization_id=organization_id, id__in=ids)
    return list(rows.select_related("organization"))


def find_approval_of(correction: Correction) -> UUID | None:
    """Return the newest request about this correction."""
    rows = ApprovalRequest.objects.filter(
        organization_id=correction.organization_id,
        subject_type="correction",
        subject_id=correction.id,
    )
    return rows.order_by("-id").values_list("id", flat=True).first()


def sums_moved(correction: Correction) -> dict[str, int]:
    """Return what it moves per currency: its debits, which its credits equal."""
    sums: dict[str, int] = {}
    for leg in correction.legs:
        if leg["amount_minor"] > 0:
            sums[leg["currency"]] = sums.get(leg["currency"], 0) + leg["amount_minor"]
    return sums
