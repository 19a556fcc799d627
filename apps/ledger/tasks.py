"""Jobs of the ledger: sealing, ending holds whose time is over, the second step of a close."""

import time
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from apps.core import jobs, partitions
from apps.ledger import operations, queries

log = structlog.stdlib.get_logger("kassa.ledger")

# The next run is a minute later and goes on; a task may last 90 s.
SECONDS_MAX: Final = 45.0


def register() -> None:
    """Declare the app's jobs, and what it needs events for; called when the app is ready."""
    jobs.declare(kind="ledger.seal", schedule=jobs.Every(minutes=1), run=seal_due)
    jobs.declare(kind="ledger.expire_holds", schedule=jobs.Every(minutes=1), run=expire_due)
    jobs.declare(kind="ledger.close_periods", schedule=jobs.Every(minutes=1), run=close_periods)
    partitions.register_holder(name="ledger.seal", is_needed=queries.has_events_to_seal_before)


def seal_due(_period: str, now: datetime) -> None:
    """Seal what waits, a portion of each organisation in turn: none waits for a large one."""
    deadline = time.monotonic() + SECONDS_MAX
    waiting = queries.list_organizations_to_seal()
    while waiting and time.monotonic() < deadline:
        waiting = [id_ for id_ in waiting if _seal_portion(id_, now)]


def _seal_portion(organization_id: UUID, now: datetime) -> bool:
    try:
        return operations.seal_entries(organization_id=organization_id, now=now) > 0
    # The boundary: a chain that cannot go on must not keep the others from it. An invariant tells
    # of entries that wait for an hour.
    except Exception:
        log.exception("entries_not_sealed", organization_id=str(organization_id))
        return False


def expire_due(_period: str, now: datetime) -> None:
    """
    Release the holds whose time is over, a portion of each organisation in turn.

    Nothing depends on it but what is shown: an act decides by the clock, and where funds lack such
    holds are released at once.
    """
    deadline = time.monotonic() + SECONDS_MAX
    waiting = queries.organizations_with_expired_holds(now=now)
    while waiting and time.monotonic() < deadline:
        waiting = [id_ for id_ in waiting if _expire_portion(id_, now)]


def _expire_portion(organization_id: UUID, now: datetime) -> bool:
    try:
        return operations.expire_holds(organization_id=organization_id, now=now) > 0
    # The boundary: one organisation's fault must not keep the others' money reserved.
    except Exception:
        log.exception("holds_not_expired", organization_id=str(organization_id))
        return False


def close_periods(_period: str, now: datetime) -> None:
    """Close every month that two people agreed to close and that nothing stands in the way of."""
    for organization_id, period_id in queries.list_closing():
        try:
            operations.finish_closing(organization_id=organization_id, period_id=period_id, now=now)
        # The boundary: one organisation's fault must not keep the others' months open.
        except Exception:
            log.exception("period_not_closed", period_id=str(period_id))
