"""Celery entry of approvals: the clock closes what nobody decided."""

from collections.abc import Iterator
from datetime import datetime

import structlog

from apps.approvals import operations, queries
from apps.core import jobs, working

log = structlog.get_logger("kassa.approvals")


def register() -> None:
    """Register the app's own act and its job; called when the app is ready."""
    operations.register_policy_act()
    jobs.declare(
        kind="approvals.expire", schedule=jobs.Every(minutes=5), steps=expire_due, catch_up="latest"
    )


def expire_due(_period: str, now: datetime, place: str = "") -> Iterator[str]:
    """Expire every request whose time is over; a second run finds nothing."""
    for request in queries.list_expired(now=now):
        # One that could not be expired is still there, and was tried in this run.
        own = f"{request.expires_at:%Y-%m-%dT%H:%M:%S.%f} {request.id}"
        if own <= place:
            continue
        try:
            operations.expire_approval(
                organization_id=request.organization_id, request_id=request.id, now=now
            )
        except working.OutOfTime:
            raise
        # The boundary: one act that cannot be undone must not keep the others from expiring.
        except Exception:
            log.exception("approval_not_expired", request_id=str(request.id))
        yield own
