"""Balance monitors, as they stand."""

from typing import Final
from uuid import UUID

from django.db.models import QuerySet

from apps.core.windows import Window, during
from apps.ledger import errors
from apps.ledger.models import BalanceMonitor

_ANY_TIME: Final = Window()


def get_monitor(*, organization_id: UUID, monitor_id: UUID) -> BalanceMonitor:
    """
    Return one monitor, active or not.

    :raises BalanceMonitorNotFound: if the organisation has no such monitor
    """
    found = monitors(organization_id=organization_id).filter(id=monitor_id).first()
    if found is None:
        raise errors.BalanceMonitorNotFound("There is no such balance monitor.")
    return found


def monitors(
    *,
    organization_id: UUID,
    account_id: UUID | None = None,
    is_active: bool | None = None,
    created: Window = _ANY_TIME,
) -> QuerySet[BalanceMonitor]:
    """Return the organisation's monitors, or one account's, for a page of them."""
    rows = BalanceMonitor.objects.filter(
        during("created_at", created), organization_id=organization_id
    )
    if account_id is not None:
        rows = rows.filter(account_id=account_id)
    return rows if is_active is None else rows.filter(is_active=is_active)
