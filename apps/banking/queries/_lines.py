"""Lines, and what became of them."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from django.db.models import OuterRef, QuerySet, Subquery

from apps.banking import errors
from apps.banking.models import BankLine, BankLineDetail, BankLineStatus
from apps.banking.states import LineState

LINE_COLUMN: Final = "banking_line.counterparty"
DETAIL_COLUMN: Final = "banking_line_detail.counterparty"
COUNTERPARTY_PURPOSE: Final = "iban"


def list_lines_with_status(
    *,
    organization_id: UUID,
    statement_id: UUID | None = None,
) -> QuerySet[BankLine]:
    """
    Return lines, newest first, of one statement where given.

    Each has `status_state` and `status_reason`.
    """
    rows = BankLine.objects.filter(organization_id=organization_id)
    if statement_id is not None:
        rows = rows.filter(statement_id=statement_id)
    status = BankLineStatus.objects.filter(
        organization_id=OuterRef("organization_id"), line_id=OuterRef("id")
    )
    return rows.order_by("-id").annotate(
        status_state=Subquery(status.values("state")[:1]),
        status_reason=Subquery(status.values("reason")[:1]),
    )


def get_line_with_status(*, organization_id: UUID, line_id: UUID) -> BankLine:
    """
    Return the bank line, with `status_state` and `status_reason`.

    :raises BankLineNotFound: if the organization has no such line
    """
    found = list_lines_with_status(organization_id=organization_id).filter(id=line_id).first()
    if found is None:
        raise errors.BankLineNotFound("There is no such bank line.")
    return found


def list_new_lines(*, organization_id: UUID, bank_account_id: UUID, limit: int) -> list[BankLine]:
    """
    Return the account's next lines to match, by booking date and order of arrival.

    The caller holds the account's queue row, so nobody else works on them.
    """
    return _first_lines(
        organization_id,
        BankLineStatus.objects.filter(
            organization_id=organization_id,
            bank_account_id=bank_account_id,
            state=LineState.NEW,
        ).order_by("booking_date", "line_id"),
        limit=limit,
    )


def list_lines_in_suspense(
    *, organization_id: UUID, bank_account_id: UUID, reason: str, turn: int, limit: int
) -> list[BankLine]:
    """
    Return lines that stand in suspense for this reason and were not looked at in this turn.

    Those that have waited longest for a look come first, then as they were booked.
    """
    return _first_lines(
        organization_id,
        BankLineStatus.objects.filter(
            organization_id=organization_id,
            bank_account_id=bank_account_id,
            state=LineState.IN_SUSPENSE,
            reason=reason,
            turn__lt=turn,
        ).order_by("turn", "booking_date", "line_id"),
        limit=limit,
    )


def _first_lines(
    organization_id: UUID, statuses: QuerySet[BankLineStatus], *, limit: int
) -> list[BankLine]:
    """Return the first lines of these, in their order."""
    ids = list(statuses.values_list("line_id", flat=True)[:limit])
    rows = BankLine.objects.filter(organization_id=organization_id, id__in=ids)
    lines = {line.id: line for line in rows}
    return [lines[id_] for id_ in ids]


def list_details(
    *, organization_id: UUID, line_ids: Collection[UUID]
) -> dict[UUID, list[BankLineDetail]]:
    """Return the details of these lines, by line, in their order."""
    found: dict[UUID, list[BankLineDetail]] = {}
    rows = BankLineDetail.objects.filter(
        organization_id=organization_id, line_id__in=line_ids
    ).order_by("line_id", "position")
    for row in rows:
        found.setdefault(row.line_id, []).append(row)
    return found
