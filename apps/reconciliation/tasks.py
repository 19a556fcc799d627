"""Celery entry of reconciliation: accounts with new lines."""

from typing import Final

from apps.banking.models import LineQueue
from apps.banking.operations import LINES_KIND
from apps.core import clock, work, working
from apps.core.actors import Actor
from apps.core.working import Record, Worker
from apps.reconciliation import operations

ACTOR: Final = Actor.job("reconciliation")


def _match(queue: LineQueue) -> Record[LineQueue]:
    progress = operations.match_bank_lines(
        organization_id=queue.organization_id, queue=queue, actor=ACTOR, now=clock.now()
    )
    # The account is done with the last look at its lines; one with many gives others a turn.
    return working.recorded if progress.is_done else work.mark_continued


# If it fails, the account's lines stay new, never matched without their posting.
MATCHING: Final = Worker(
    kind=LINES_KIND,
    model=LineQueue,
    task="reconciliation.match_due",
    queue="money",
    seconds_max=working.LONG_ROWS_SECONDS_MAX,
    perform=_match,
)
match_due: Final = working.register(MATCHING)
