"""How the work of a row ended: done, to be tried again, put off, given up; or released anew."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog
from django.db import models
from django.db.models import F
from django.db.models.functions import Greatest, Now

from apps.core import clock
from apps.core.ids import made_at
from apps.core.work._rows import WorkRow, WorkState

log = structlog.get_logger(__name__)

_RETRY_DELAYS_SECONDS: Final = (1, 5, 30, 120, 600, 1800, 3600)
# Work is never dropped by count: it is set aside for a person, who releases it with a reason.
ATTEMPTS_MAX: Final = 12
# How long the processes of two releases may work beside each other.
_RELEASE_MAX: Final = timedelta(days=1)
_UNDECLARED_SECONDS: Final = 30
_RECORDED_FIELDS: Final = [
    "state",
    "next_attempt_at",
    "lease_until",
    "lease_token",
    "lapses",
    "last_error_code",
]


def mark_done(row: WorkRow) -> None:
    """Record that the work is done, in the transaction of its effect."""
    row.state, row.lapses, row.last_error_code = WorkState.DONE, 0, ""
    row.lease_until = row.lease_token = None
    row.save(update_fields=[f for f in _RECORDED_FIELDS if f != "next_attempt_at"])


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
        step = _RETRY_DELAYS_SECONDS[min(max(row.attempts, 1), len(_RETRY_DELAYS_SECONDS)) - 1]
        delay_seconds = step * random.uniform(0.8, 1.2)  # noqa: S311  (jitter, not a secret)
    _mark_pending(row, error_code=error_code, delay_seconds=delay_seconds)


def mark_waiting(row: WorkRow, *, error_code: str, delay_seconds: float) -> None:
    """
    Have the row looked at again after the delay, since what it waits for is not there yet.

    To look was no attempt: however long it waits, it has all its tries when its turn comes.
    """
    row.attempts = max(row.attempts - 1, 0)
    _mark_pending(row, error_code=error_code, delay_seconds=delay_seconds)


def mark_all_waiting[M: WorkRow](
    model: type[M], rows: Sequence[M], *, error_code: str, delay_seconds: float
) -> None:
    """Have locked rows looked at again after the delay, as `mark_waiting` does with one."""
    model.objects.filter(id__in=[row.id for row in rows]).update(
        state=WorkState.PENDING,
        attempts=Greatest(F("attempts") - 1, 0),
        lapses=0,
        last_error_code=error_code,
        next_attempt_at=Now() + timedelta(seconds=delay_seconds),
        lease_until=None,
        lease_token=None,
    )


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
    row.save(update_fields=["attempts", *_RECORDED_FIELDS])


def mark_failed(row: WorkRow, *, error_code: str, quarantined: bool = False) -> None:
    """Record that the row is given up by its policy, or quarantined for a person to look at."""
    row.state = WorkState.QUARANTINED if quarantined else WorkState.FAILED
    row.lapses, row.last_error_code = 0, error_code
    row.lease_until = row.lease_token = None
    row.save(update_fields=[f for f in _RECORDED_FIELDS if f != "next_attempt_at"])
    if quarantined:
        tell_quarantined(row)


def mark_released(row: WorkRow) -> None:
    """Make a quarantined, failed or paused row due now, as if it had never been tried."""
    row.state, row.attempts, row.lapses = WorkState.PENDING, 0, 0
    row.lease_until = row.lease_token = None
    row.next_attempt_at = Now()
    row.save(update_fields=["attempts", *_RECORDED_FIELDS])


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


def tell_quarantined(row: WorkRow) -> None:
    log.error(
        "work_quarantined",
        table=row._meta.db_table,
        row_id=str(row.id),
        attempts=row.attempts,
        lapses=row.lapses,
        error_code=row.last_error_code,
    )
