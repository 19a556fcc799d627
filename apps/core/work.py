"""
The durable work row: the row is the queue; Celery and Redis only say "look now" (events.md, 2).

claim (lease, commit) -> work with no transaction open -> record in a second operation, where the
lease is compared. A worker that dies leaves a row that falls due again when its lease ends.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import ClassVar, Final, Self
from uuid import UUID

import structlog
from django.db import connection, models
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.core import claiming, clock, counters, failpoints, nudging, transactions
from apps.core.errors import InvariantBroken
from apps.core.failpoints import Failpoint
from apps.core.ids import made_at, new_id

log = structlog.get_logger(__name__)

RETRY_DELAYS_SECONDS: Final = (1, 5, 30, 120, 600, 1800, 3600)
LAPSES_MAX: Final = 5
# A lease is the hard limit of its work and this much, so that whoever takes a row over finds the
# one before gone. What a killed worker held is with another within a minute (ADR 0109).
HARD_SECONDS: Final = 40
LEASE_MARGIN_SECONDS: Final = 15
TAKEN_OVER_SECONDS_MAX: Final = 60
# Work is never dropped by count: it is set aside for a person, who releases it with a reason.
ATTEMPTS_MAX: Final = 12
FAILED_TOGETHER: Final = "failed_together"
# How long the processes of two releases may work beside each other.
_RELEASE_MAX: Final = timedelta(days=1)
_UNDECLARED_SECONDS: Final = 30
RECORDED_FIELDS: Final = [
    "state",
    "next_attempt_at",
    "lease_until",
    "lease_token",
    "lapses",
    "last_error_code",
]
_CLAIMS: Final = counters.Counter(
    "kassa_work_claims_total", "Rows of work claimed, and what they were.", ("kind", "outcome")
)


class WorkState(models.TextChoices):
    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    PAUSED = "paused"


# Of every table of work rows, set by a migration: room to update in place, dead rows gone soon.
STORAGE: Final = {
    "fillfactor": "70",
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "500",
    "autovacuum_vacuum_cost_delay": "0",
}
OPEN: Final = (WorkState.PENDING, WorkState.LEASED)
# Nobody works these until a person releases them.
SET_ASIDE: Final = (WorkState.QUARANTINED, WorkState.FAILED, WorkState.PAUSED)


class WorkRow(models.Model):
    """One durable piece of work. Leases and due times are on the database's clock."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    state = models.CharField(
        max_length=11, choices=WorkState, default=WorkState.PENDING, db_default=WorkState.PENDING
    )
    attempts = models.PositiveIntegerField(default=0, db_comment="Raised in the claim.")
    lapses = models.PositiveSmallIntegerField(
        default=0, db_comment="Leases in a row that ended with no outcome."
    )
    next_attempt_at = models.DateTimeField(
        db_default=Now(), db_comment="When due; a claim sets it to the end of its lease."
    )
    lease_until = models.DateTimeField(null=True)
    lease_token = models.UUIDField(null=True)
    last_error_code = models.CharField(max_length=64, default="")
    traceparent = models.CharField(max_length=64, default="")

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        abstract = True


def work_indexes(name: str, *, owner: str | None = None) -> list[models.Index]:
    """
    Return the partial indexes of a work table; the only ones that start with no organisation.

    A claim walks what is open. People look at what was set aside: without an index of its own,
    finding three such rows would read every row that was ever done. `owner`, the field of the
    organization, is for rows of which one organization may have a backlog: a claim finds what the
    others have behind it by one more index. Rows that live on, one a lane or an account, go without
    it: each comes back behind what is due, so none is before another twice.
    """
    is_open = Q(state__in=list(OPEN))
    turns = (
        [
            models.Index(
                name=f"{name}{claiming.TURNS}", fields=[owner, "next_attempt_at"], condition=is_open
            )
        ]
        if owner
        else []
    )
    return [
        *turns,
        models.Index(name=f"{name}_due", fields=["next_attempt_at"], condition=is_open),
        models.Index(
            name=f"{name}_set_aside",
            fields=["state", "next_attempt_at"],
            condition=Q(state__in=list(SET_ASIDE)),
        ),
    ]


def lease_of(hard_seconds: int) -> int:
    """Return for how long a row is leased whose work has ended, one way or another, after these."""
    return hard_seconds + LEASE_MARGIN_SECONDS


@dataclass(frozen=True, slots=True)
class Kind:
    """
    One kind of work: its rows, and the task that looks for due ones.

    `condition` is SQL that says which rows are meant where several kinds share a table. After
    `hard_seconds` whoever works a row has ended: its task is killed then, or, in threads, whose
    tasks nobody kills, the work itself keeps to it.
    """

    name: str
    model: type[WorkRow]
    task: str
    queue: str
    hard_seconds: int = HARD_SECONDS
    in_threads: bool = False
    condition: str = ""

    @property
    def lease_seconds(self) -> int:
        """Return for how long a claimed row is the claimant's."""
        return lease_of(self.hard_seconds)


_kinds: dict[str, Kind] = {}


def register_kind(kind: Kind) -> None:
    """
    Have the sweeper enqueue the kind's task on its queue whenever rows of its model are due.

    Staff see its rows on the page of stuck work from then on, those that meet its condition.
    """
    _kinds[kind.name] = kind


def find_kind(name: str) -> Kind | None:
    """Return the kind of this name, or None."""
    return _kinds.get(name)


def kinds() -> list[Kind]:
    """Return every registered kind, by name."""
    return [_kinds[name] for name in sorted(_kinds)]


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
            _tell_quarantined(row)
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


def has_organization(model: type[WorkRow]) -> bool:
    """Say whether rows of this model name an organization; work of the platform does not."""
    return any(field.attname == "organization_id" for field in model._meta.concrete_fields)


def _tell_quarantined(row: WorkRow) -> None:
    log.error(
        "work_quarantined",
        table=row._meta.db_table,
        row_id=str(row.id),
        attempts=row.attempts,
        lapses=row.lapses,
        error_code=row.last_error_code,
    )


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


def mark_done(row: WorkRow) -> None:
    """Record that the work is done, in the transaction of its effect."""
    row.state, row.lapses, row.last_error_code = WorkState.DONE, 0, ""
    row.lease_until = row.lease_token = None
    row.save(update_fields=[f for f in RECORDED_FIELDS if f != "next_attempt_at"])


def mark_all_done[M: WorkRow](model: type[M], rows: Sequence[M]) -> None:
    """Record of locked rows that their work is done, as `mark_done` does of one."""
    model.objects.filter(id__in=[row.id for row in rows]).update(
        state=WorkState.DONE, lapses=0, last_error_code="", lease_until=None, lease_token=None
    )


def mark_retry(row: WorkRow, *, error_code: str, delay_seconds: float | None = None) -> None:
    """
    Record a failed attempt; due again after the policy's delay, or after `delay_seconds`.

    The policy quarantines the row after its twelfth attempt; a delay of the caller's own is a
    policy of the caller's own, and never does.
    """
    if delay_seconds is None:
        if row.attempts >= ATTEMPTS_MAX:
            mark_failed(row, error_code=error_code, quarantined=True)
            return
        step = RETRY_DELAYS_SECONDS[min(max(row.attempts, 1), len(RETRY_DELAYS_SECONDS)) - 1]
        delay_seconds = step * random.uniform(0.8, 1.2)  # noqa: S311  (jitter, not a secret)
    _mark_pending(row, error_code=error_code, delay_seconds=delay_seconds)


def mark_waiting(row: WorkRow, *, error_code: str, delay_seconds: float) -> None:
    """
    Have the row looked at again after the delay, since what it waits for is not there yet.

    To look was no attempt: however long it waits, it has all its tries when its turn comes.
    """
    row.attempts = max(row.attempts - 1, 0)
    _mark_pending(row, error_code=error_code, delay_seconds=delay_seconds)


def mark_undeclared(row: WorkRow, *, error_code: str) -> None:
    """
    Record that this process does not know how the row is worked.

    While releases change over, another process may know it already, or still: so it waits. What is
    a day old is tried by the policy instead, so that a person hears of what nobody knows any more.
    """
    if clock.now() - made_at(row.id) < _RELEASE_MAX:
        mark_waiting(row, error_code=error_code, delay_seconds=_UNDECLARED_SECONDS)
    else:
        mark_retry(row, error_code=error_code)


def _mark_pending(row: WorkRow, *, error_code: str, delay_seconds: float) -> None:
    row.state, row.lapses, row.last_error_code = WorkState.PENDING, 0, error_code
    row.lease_until = row.lease_token = None
    row.next_attempt_at = Now() + timedelta(seconds=delay_seconds)
    row.save(update_fields=["attempts", *RECORDED_FIELDS])


def mark_failed(row: WorkRow, *, error_code: str, quarantined: bool = False) -> None:
    """Record that the row is given up by its policy, or quarantined for a person to look at."""
    row.state = WorkState.QUARANTINED if quarantined else WorkState.FAILED
    row.lapses, row.last_error_code = 0, error_code
    row.lease_until = row.lease_token = None
    row.save(update_fields=[f for f in RECORDED_FIELDS if f != "next_attempt_at"])
    if quarantined:
        _tell_quarantined(row)


def mark_released(row: WorkRow) -> None:
    """Make a quarantined, failed or paused row due now, as if it had never been tried."""
    row.state, row.attempts, row.lapses = WorkState.PENDING, 0, 0
    row.lease_until = row.lease_token = None
    row.next_attempt_at = Now()
    row.save(update_fields=["attempts", *RECORDED_FIELDS])


def mark_all_released[M: WorkRow](rows: models.QuerySet[M]) -> None:
    """Make these rows due now, as `mark_released` does one; who holds a lease of one loses it."""
    rows.update(
        state=WorkState.PENDING,
        attempts=0,
        lapses=0,
        next_attempt_at=Now(),
        lease_until=None,
        lease_token=None,
    )


def mark_continued(row: WorkRow) -> None:
    """Record that a part of the work is done; the rest is due now, with tries of its own."""
    row.last_error_code = ""
    mark_released(row)


def due_kinds() -> list[Kind]:
    """Return the kinds that have a row due now, by the database's clock."""
    found = []
    with connection.cursor() as cursor:
        for kind in kinds():
            # The table's name and the condition are ours; nothing of it comes from outside.
            cursor.execute(
                f'SELECT EXISTS (SELECT FROM "{kind.model._meta.db_table}"'  # noqa: S608
                f" WHERE {claiming.DUE} AND ({kind.condition or 'true'}))"
            )
            if (cursor.fetchone() or (False,))[0]:
                found.append(kind)
    return found


def nudge(kind_name: str) -> None:
    """After COMMIT, tell a worker to look now. Losing it costs latency only; it never raises."""
    kind = _kinds.get(kind_name)
    if kind is None:
        msg = f"No work kind {kind_name!r} is registered."
        raise InvariantBroken(msg)
    transactions.on_commit(lambda: nudging.send(kind))


def enqueue(kind: Kind) -> None:
    """Send the kind's task now, outside a transaction: what the sweeper does."""
    nudging.send_hint(kind)
