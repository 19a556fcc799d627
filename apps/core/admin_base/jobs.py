"""How the declared jobs stand, as a table: of the screen of jobs, and beside stuck work."""

from collections.abc import Sequence
from datetime import datetime

from django.urls import reverse
from django.utils.safestring import SafeString

from apps.core import stuck
from apps.core.admin_base import cells
from apps.core.admin_base.pages import Table
from apps.core.jobs import JOBS_KIND


def jobs_table(found: Sequence[stuck.JobStanding], *, now: datetime, more_url: str = "") -> Table:
    """Return each declared job with its last success, its next period and those not done."""
    periods = reverse("admin:core_jobrun_changelist")
    return Table(
        "Jobs",
        (
            "Job",
            "Schedule",
            "State",
            "Last success, ago",
            "Next due",
            ">Running",
            ">Waiting",
            ">Set aside",
            ">Missed",
        ),
        [
            [
                cells.link(f"{periods}?kind={one.job.kind}", cells.code(one.job.kind)),
                cells.text(one.job.schedule),
                _standing_of(one, now=now),
                cells.age(one.last_success_at, now=now),
                cells.instant(one.next_due_at),
                _periods(one.running),
                _periods(one.waiting),
                _set_aside(one),
                _periods(one.missed, bound=stuck.MISSED_COUNTED_MAX),
            ]
            for one in found
        ],
        note="late: the last success is older than two periods; missed: nobody planned the period",
        more_url=more_url,
        more_label="All periods",
    )


def _standing_of(one: stuck.JobStanding, *, now: datetime) -> SafeString:
    if one.is_stopped:
        return cells.state("stopped", label="stopped by a period", tone="bad")
    if one.is_late(now=now):
        return cells.state("late", tone="bad")
    if one.set_aside:
        return cells.state("set_aside", label="a period set aside", tone="warn")
    if not one.is_planned:
        return cells.state("not planned yet", tone="warn")
    return cells.state("on time", tone="good")


def _periods(number: int, *, bound: int = stuck.PERIODS_COUNTED_MAX) -> SafeString:
    if not number:
        return cells.NONE
    return cells.text(f"{bound:,}+" if number > bound else f"{number:,}")


def _set_aside(one: stuck.JobStanding) -> SafeString:
    if one.first_set_aside_id is None:
        return cells.NONE
    return cells.link(
        reverse("admin:stuck_row", args=[JOBS_KIND, one.first_set_aside_id]), one.set_aside
    )
