"""What the back office itself keeps: figures for its charts, and whether the invariants held."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from apps.backoffice import queries
from apps.backoffice.models import DailyMetric, InvariantCheck
from apps.core import clock, invariants, transactions, working
from apps.core.ids import new_ids

log = structlog.stdlib.get_logger("kassa.backoffice")

# Lines come in late: whatever day a line of these last days was booked on is counted afresh.
LOOK_BACK: Final = timedelta(days=2)
# A turn of the job, and what its last statement may take: together well within a job's limit.
CHECK_SECONDS_MAX: Final = working.TURN_SECONDS
STATEMENT_SECONDS_MAX: Final = 12.0


@transactions.outermost
def roll_up(*, organization_id: UUID, now: datetime) -> int:
    """
    Count again the days whose bank lines came in lately; return how many figures were written.

    Running it again writes the same. The figures are a copy: emptied, the next run of
    `roll_up_everything` brings back what the look-back covers, and `roll_up_since` the rest.
    """
    days = queries.list_touched_days(organization_id=organization_id, since=now - LOOK_BACK)
    return _write(organization_id=organization_id, days=days, now=now)


@transactions.outermost
def roll_up_since(*, organization_id: UUID, since: date, now: datetime) -> int:
    """Count again every day from `since` on, for a fresh installation or an emptied table."""
    days = [since + timedelta(days=n) for n in range((now.date() - since).days + 1)]
    return _write(organization_id=organization_id, days=days, now=now)


def check_invariants(
    *,
    now: datetime,
    seconds_max: float = CHECK_SECONDS_MAX,
    statement_seconds_max: float = STATEMENT_SECONDS_MAX,
) -> InvariantCheck:
    """
    Run every app's invariants and keep which of them did not hold when last looked at.

    They are read one by one and no transaction is open round them all: each is a statement that
    sees one snapshot, and a run over large tables must not hold an old one. What is not reached in
    `seconds_max` the next run begins with. A statement that takes too long is cut off and told in
    the log, and its invariant is unanswered: `manage.py check_invariants --keep` takes its time.
    """
    statements = invariants.collect()
    last = queries.find_last_check()
    found = _Answers.after(last, statements)
    started = time.monotonic()
    place = found.place
    for step in invariants.steps(statements, start=place, seconds_max=statement_seconds_max):
        found.take(step)
        place = step.following
        if time.monotonic() - started > seconds_max:
            break
    if found.broken:
        log.error("invariants_broken", names=sorted(found.broken))
    return _keep_check(now=now, found=found, place=place)


@transactions.outermost
def keep_whole_check(looked_at: Collection[str], broken: Collection[str]) -> InvariantCheck:
    """Keep what somebody found who looked at all of it, without a limit."""
    return InvariantCheck.objects.create(
        checked_at=clock.now(), statement_count=len(looked_at), broken=list(broken)
    )


@dataclass(slots=True)
class _Answers:
    """Which invariants were answered when last looked at, which broke, and where to go on."""

    names: list[str]
    answered: set[str]
    broken: set[str]
    place: invariants.Place | None
    # Whether the one that is walked has a part of which nothing is known.
    is_cut: bool = False

    @classmethod
    def after(
        cls, last: InvariantCheck | None, statements: Mapping[str, invariants.Invariant]
    ) -> "_Answers":
        if last is None:
            return cls(list(statements), set(), set(), None)
        place = None
        if last.next_name in statements:
            place = invariants.Place(last.next_name)
            if last.next_organization_id is not None and last.next_key is not None:
                place = invariants.Place(last.next_name, last.next_organization_id, last.next_key)
        return cls(
            list(statements),
            answered=statements.keys() - set(last.unanswered),
            broken=statements.keys() & set(last.broken),
            place=place,
            is_cut=place is not None and last.next_is_cut,
        )

    def take(self, step: invariants.Step) -> None:
        self.is_cut |= step.is_cut
        if not step.is_done:
            return
        if step.breach is not None:
            self.answered.add(step.name)
            self.broken.add(step.name)
        elif self.is_cut:
            # What was broken stays so: nothing says that it is not.
            self.answered.discard(step.name)
        else:
            self.answered.add(step.name)
            self.broken.discard(step.name)
        self.is_cut = False


@transactions.outermost
def _keep_check(
    *, now: datetime, found: _Answers, place: invariants.Place | None
) -> InvariantCheck:
    return InvariantCheck.objects.create(
        checked_at=now,
        statement_count=len(found.answered),
        broken=[name for name in found.names if name in found.broken],
        unanswered=[name for name in found.names if name not in found.answered],
        next_name=place.name if place else "",
        next_organization_id=place.organization_id if place else None,
        next_key=place.key if place else None,
        next_is_cut=place is not None and found.is_cut,
    )


def _write(*, organization_id: UUID, days: list[date], now: datetime) -> int:
    figures = queries.count_money(organization_id=organization_id, days=days)
    rows = [
        DailyMetric(
            id=id_,
            organization_id=organization_id,
            day=figure.day,
            name=figure.name,
            currency=figure.currency,
            value=figure.value,
            rolled_up_at=now,
        )
        for id_, figure in zip(new_ids(len(figures)), figures, strict=True)
    ]
    DailyMetric.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["organization", "day", "name", "currency"],
        update_fields=["value", "rolled_up_at"],
    )
    return len(rows)
