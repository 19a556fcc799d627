"""Who has a row: it is leased, the lease is compared when its work is recorded, or given back."""

from collections.abc import Sequence
from functools import partial
from typing import Final
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Now

from apps.core import claiming, counters, failpoints, transactions
from apps.core.failpoints import Failpoint
from apps.core.work._outcomes import tell_quarantined
from apps.core.work._registry import kinds
from apps.core.work._rows import WorkRow, WorkState

LAPSES_MAX: Final = 5
FAILED_TOGETHER: Final = "failed_together"
_CLAIMS: Final = counters.Counter(
    "kassa_work_claims_total", "Rows of work claimed, and what they were.", ("kind", "outcome")
)


@transactions.outermost
def claim_due[M: WorkRow](
    model: type[M], *, limit: int, lease_seconds: int, only_ids: list[UUID] | None = None
) -> list[M]:
    """
    Lease at most `limit` due rows, oldest due first, and commit; they come back with their token.

    At most a quarter belongs to one organisation while others wait, however long its backlog is
    (ADR 0115). A row whose lease ended without an outcome may be what kills workers, and others
    lapsed only beside it: at most one such row is leased at a time, it comes back last, and at its
    fifth lapse in a row it is quarantined instead.
    """
    rows = sorted(
        claiming.lease(
            model,
            limit=limit,
            seconds=lease_seconds,
            lapses_max=LAPSES_MAX,
            only_ids=only_ids,
        ),
        key=lambda row: (row.lapses > 0, row.id),
    )
    claimed = []
    for row in rows:
        if row.state == WorkState.QUARANTINED:
            tell_quarantined(row)
        else:
            claimed.append(row)
    if rows:
        transactions.on_commit(partial(_count_claims, model, rows))
    if claimed:
        transactions.on_commit(partial(failpoints.reach, Failpoint.WORK_CLAIMED))
    return claimed


def _count_claims[M: WorkRow](model: type[M], rows: Sequence[M]) -> None:
    # Kinds that share a table are claimed from it as one.
    kind = next((kind.name for kind in kinds() if kind.model is model), model._meta.db_table)
    for row in rows:
        outcome = "lapsed" if row.lapses and row.state == WorkState.LEASED else row.state
        _CLAIMS.add(kind=kind, outcome=str(outcome))


def lock_leased[M: WorkRow](
    model: type[M], *, organization_id: UUID | None, row_id: UUID, lease_token: UUID | None
) -> M | None:
    """Return the row locked, if this lease still holds it; None if another took it over."""
    transactions.current()
    rows = model.objects.select_for_update(no_key=True).filter(id=row_id)
    if organization_id is not None:
        rows = rows.filter(organization_id=organization_id)
    row = rows.first()
    if row is None or row.state != WorkState.LEASED or row.lease_token != lease_token:
        return None
    return row


def lock_all_leased[M: WorkRow](model: type[M], claimed: Sequence[M]) -> list[M]:
    """Return those rows locked whose lease still holds them, as `lock_leased` does with one."""
    transactions.current()
    tokens = {row.id: row.lease_token for row in claimed}
    # By id, so that two who hold some of the same wait for each other one way.
    rows = model.objects.select_for_update(no_key=True).filter(id__in=list(tokens)).order_by("id")
    return [
        row for row in rows if row.state == WorkState.LEASED and row.lease_token == tokens[row.id]
    ]


@transactions.outermost
def give_back[M: WorkRow](model: type[M], rows: Sequence[M], *, is_tried: bool = False) -> None:
    """
    Let go of leases; the rows are due now.

    What was not begun was no attempt. What failed together with other rows was one of each: by that
    it is known not to be tried with others again.
    """
    held = model.objects.filter(
        id__in=[row.id for row in rows],
        state=WorkState.LEASED,
        lease_token__in=[row.lease_token for row in rows],
    )
    tried = {"lapses": 0, "last_error_code": FAILED_TOGETHER}
    held.update(
        state=WorkState.PENDING,
        next_attempt_at=Now(),
        lease_until=None,
        lease_token=None,
        **(tried if is_tried else {"attempts": F("attempts") - 1}),
    )
