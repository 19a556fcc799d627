"""What staff may do to the core's own rows."""

from uuid import UUID

from apps.core import audit, queries, transactions, work
from apps.core.actors import Actor
from apps.core.errors import NotFound, StateConflict
from apps.core.work import SET_ASIDE, WorkRow


@transactions.outermost
def release_work(*, kind_name: str, row_id: UUID, reason: str, actor: Actor) -> None:
    """
    Make a row that was set aside due now, whoever's it is: for the shell, which asks for no right.

    :raises NotFound: if there is no such kind of work, or no such row
    :raises StateConflict: if the row is not set aside
    """
    _release(_locked(kind_name, row_id), kind_name, reason=reason, actor=actor)


@transactions.required
def release_set_aside(
    *, organization_id: UUID | None, kind_name: str, row_id: UUID, reason: str, actor: Actor
) -> None:
    """
    Make an organization's row that was set aside due now, as if it had never been tried.

    None is the platform itself, whose the periods of jobs are. Doing it again finds the row at
    work and is refused.

    :raises NotFound: if there is no such kind of work, or the organization has no such row
    :raises StateConflict: if the row is not set aside
    """
    row = _locked(kind_name, row_id)
    if getattr(row, "organization_id", None) != organization_id:
        raise NotFound("No such work.")
    _release(row, kind_name, reason=reason, actor=actor)


def _locked(kind_name: str, row_id: UUID) -> WorkRow:
    kind = work.find_kind(kind_name)
    # The lock decides between two who release, and between one of them and a worker's claim.
    row = None if kind is None else queries.find_work_for_update(kind.model, row_id=row_id)
    if row is None:
        raise NotFound("No such work.")
    return row


def _release(row: WorkRow, kind_name: str, *, reason: str, actor: Actor) -> None:
    if row.state not in SET_ASIDE:
        raise StateConflict("This work is not set aside.", state=row.state)
    before = _standing(row)
    work.mark_released(row)
    audit.record(
        "core.requeue_work", row, actor=actor, reason=reason, before=before, after=_standing(row)
    )
    work.nudge(kind_name)


def _standing(row: WorkRow) -> dict[str, object]:
    return {
        "state": str(row.state),
        "attempts": row.attempts,
        "lapses": row.lapses,
        "error": row.last_error_code,
    }
