"""Celery entry of reconciliation: accounts with new lines."""

from typing import Final

import structlog
from celery import shared_task

from apps.banking.models import LineQueue
from apps.core import clock, work
from apps.core.actors import Actor
from apps.core.transactions import outermost
from apps.reconciliation import operations

log = structlog.get_logger("kassa.reconciliation")

ACTOR: Final = Actor.job("reconciliation")
_LEASE_SECONDS: Final = 120


@shared_task(name="reconciliation.match_due")
def match_due(**_: object) -> int:
    """Match the new lines of one account that is due; return how many lines were posted."""
    posted = 0
    for queue in work.claim_due(LineQueue, limit=1, lease_seconds=_LEASE_SECONDS):
        try:
            progress = operations.match_bank_lines(
                organization_id=queue.organization_id, queue=queue, actor=ACTOR, now=clock.now()
            )
        # The boundary: the account's lines stay new, never matched without their posting, and
        # are tried again by their row.
        except Exception as fault:
            log.exception("bank_lines_not_matched", bank_account_id=str(queue.bank_account_id))
            _retry(queue, error_code=type(fault).__name__[:64])
        else:
            posted += progress.matched + progress.in_suspense
    return posted


@outermost
def _retry(queue: LineQueue, *, error_code: str) -> None:
    held = work.lock_leased(
        LineQueue,
        organization_id=queue.organization_id,
        row_id=queue.id,
        lease_token=queue.lease_token,
    )
    if held is not None:
        work.mark_retry(held, error_code=error_code)
