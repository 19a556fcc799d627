"""What staff may do to the core's own rows."""

from uuid import UUID

from apps.core import audit, queries, transactions, work
from apps.core.actors import Actor
from apps.core.errors import NotFound, StateConflict
from apps.core.work import WorkState

RELEASABLE = frozenset({WorkState.QUARANTINED, WorkState.FAILED, WorkState.PAUSED})


@transactions.outermost
def release_work(*, kind_name: str, row_id: UUID, reason: str, actor: Actor) -> None:
    """
    Make a row that was set aside due now, as if it had never been tried.

    Doing it again finds the row at work and is refused.

    :raises NotFound: if there is no such kind of work, or no such row
    :raises StateConflict: if the row is not set aside
    """
    kind = {kind.name: kind for kind in work.kinds()}.get(kind_name)
    row = None if kind is None else queries.find_work_for_update(kind.model, row_id=row_id)
    if row is None:
        raise NotFound("No such work.")
    before = {"state": row.state, "attempts": row.attempts, "error": row.last_error_code}
    if row.state not in RELEASABLE:
        raise StateConflict("This work is not set aside.", state=row.state)
    work.mark_released(row)
    audit.record("core.requeue_work", row, actor=actor, reason=reason, before=before)
    work.nudge(kind_name)
