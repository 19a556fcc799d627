"""The jobs behind the home page: figures for its charts, and whether the invariants hold."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from apps.backoffice import operations, queries
from apps.core import jobs

MINUTES = 5
MINUTES_BETWEEN_CHECKS = 15
# So much of each quarter of an hour the invariants may cost; large books take several of them.
_CHECKS_A_RUN: Final = 5


def register() -> None:
    """Declare the jobs; called when the app is ready."""
    jobs.declare(
        kind="backoffice.roll_up", schedule=jobs.Every(minutes=MINUTES), steps=roll_up_everything
    )
    jobs.declare(
        kind="backoffice.check_invariants",
        schedule=jobs.Every(minutes=MINUTES_BETWEEN_CHECKS),
        steps=check_invariants,
    )


def check_invariants(_period: str, now: datetime, place: str = "") -> Iterator[str]:
    """See whether everything that must hold does, and keep the answer."""
    for check in range(int(place or 0), _CHECKS_A_RUN):
        # It is kept with where the next one goes on, in this run or the next.
        if not operations.check_invariants(now=now).next_name:
            return
        yield str(check + 1)


def roll_up_everything(_period: str, now: datetime, place: str = "") -> Iterator[str]:
    """Count the days that lately changed again, organization by organization."""
    for organization_id in queries.list_organization_ids():
        if str(organization_id) > place:
            operations.roll_up(organization_id=organization_id, now=now)
            yield str(organization_id)
