"""Corrections of the books, and the approvals they wait for."""

from collections.abc import Collection
from uuid import UUID

from django.db.models import OuterRef, Q, Subquery

from apps.approvals.models import ApprovalRequest
from apps.backoffice.errors import CorrectionNotFound
from apps.backoffice.models import Correction
from apps.backoffice.states import CorrectionState
from apps.ledger.registry import ByHand, Corrections


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
    rows = Correction.objects.filter(_is_waiting_for([entry_id]), organization_id=organization_id)
    return rows.order_by("id").first()


def find_corrections(
    *,
    organization_id: UUID,
    entry_ids: Collection[UUID],
    posted_id: UUID | None = None,
    undone_id: UUID | None = None,
) -> Corrections:
    """
    Return the approval that waits to undo one of these entries, and who had one posted by hand.

    In one read. Of what was posted no index is kept: where that is asked, the organization's
    corrections are read, each of which took two people.
    """
    wanted = _is_waiting_for(entry_ids)
    if posted_id is not None:
        wanted |= Q(state=CorrectionState.POSTED, posted_id=posted_id)
    if undone_id is not None:
        wanted |= Q(state=CorrectionState.POSTED, entry_id=undone_id)
    approvals = ApprovalRequest.objects.filter(
        organization_id=organization_id, subject_type="correction", subject_id=OuterRef("id")
    )
    found = list(
        Correction.objects.filter(wanted, organization_id=organization_id)
        .annotate(approval_id=Subquery(approvals.order_by("-id").values("id")[:1]))
        .order_by("id")
    )
    waiting = [row for row in found if row.state == CorrectionState.WAITING]
    # What posted the very entry goes before what posted the other one of an exchange.
    posted = sorted(
        (row for row in found if row.closed_at is not None),
        key=lambda row: row.posted_id != posted_id,
    )
    return Corrections(
        waiting[0].approval_id if waiting else None, _by_hand(posted[0]) if posted else None
    )


def _by_hand(row: Correction) -> ByHand:
    return ByHand(
        row.id,
        row.requested_by,
        row.requested_at,
        row.approved_by,
        row.closed_at,  # type: ignore[arg-type]  # what was posted was closed: a CHECK
    )


def _is_waiting_for(entry_ids: Collection[UUID]) -> Q:
    return Q(state=CorrectionState.WAITING, entry_id__in=list(entry_ids))


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
