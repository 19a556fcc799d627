"""Months of the books, and what they wait for."""

from datetime import datetime
from uuid import UUID

from apps.approvals import queries as requests
from apps.ledger.registry import AskedFor


def find_waiting_period_request(
    *, organization_id: UUID, period_id: UUID, now: datetime
) -> AskedFor | None:
    """Return the request for a month to be closed or opened again that waits at `now`, or None."""
    waiting = requests.find_open_request(
        organization_id=organization_id, subject_type="period", subject_id=period_id, now=now
    )
    return AskedFor(waiting.id, waiting.state) if waiting is not None else None
