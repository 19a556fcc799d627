"""What became of lines, and the queue of accounts that have new ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import connection

from apps.banking.models import LineQueue
from apps.core import transactions, work
from apps.core.errors import InvariantBroken

LINES_KIND: Final = "banking.lines"

_RECORD: Final = """
    UPDATE banking_line_status AS status
       SET state = worked.state, entry_id = COALESCE(status.entry_id, worked.entry_id),
           reason = worked.reason, turn = %s
      FROM unnest(%s::uuid[], %s::text[], %s::uuid[], %s::text[])
           AS worked(line_id, state, entry_id, reason)
     WHERE status.organization_id = %s AND status.line_id = worked.line_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineOutcome:
    """What a line became, and the entry that posted it to its bank account."""

    line_id: UUID
    state: str
    entry_id: UUID | None
    reason: str = ""


@transactions.required
def record_line_outcomes(
    *, organization_id: UUID, outcomes: Sequence[LineOutcome], turn: int
) -> None:
    """
    Record what became of lines, in one statement, in the transaction of their postings.

    The entry of a line that was posted before stays: each line posts once to its account. `turn` is
    that of the account's queue: in it they were looked at.
    """
    if not outcomes:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _RECORD,
            [
                turn,
                [outcome.line_id for outcome in outcomes],
                [str(outcome.state) for outcome in outcomes],
                [outcome.entry_id for outcome in outcomes],
                [outcome.reason for outcome in outcomes],
                organization_id,
            ],
        )
        if cursor.rowcount != len(outcomes):
            msg = "A bank line has no status, or two."
            raise InvariantBroken(msg)


@transactions.required
def begin_turn(queue: LineQueue) -> None:
    """Have each parked line of a locked queue's account tried once more: new lines were matched."""
    queue.turn += 1
    queue.save(update_fields=["turn"])


def wake_line_queues(*, organization_id: UUID, bank_account_ids: Sequence[UUID]) -> None:
    """
    Make these accounts due for matching, in the transaction that brings their lines.

    A worker that holds the lease loses it: it may have seen the account empty a moment ago. New
    lines are new work: the tries of earlier days do not count towards its quarantine.
    """
    if not bank_account_ids:
        return
    work.mark_all_released(
        LineQueue.objects.filter(
            organization_id=organization_id, bank_account_id__in=bank_account_ids
        )
    )
    work.nudge(LINES_KIND)
