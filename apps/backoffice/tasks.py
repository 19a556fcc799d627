"""The jobs behind the home page: figures for its charts, and whether the invariants hold."""

from datetime import datetime

from apps.backoffice import operations, queries
from apps.core import jobs

MINUTES = 5
MINUTES_BETWEEN_CHECKS = 15


def register() -> None:
    """Declare the jobs; called when the app is ready."""
    jobs.declare(
        kind="backoffice.roll_up", schedule=jobs.Every(minutes=MINUTES), run=roll_up_everything
    )
    jobs.declare(
        kind="backoffice.check_invariants",
        schedule=jobs.Every(minutes=MINUTES_BETWEEN_CHECKS),
        run=check_invariants,
    )


def check_invariants(_period: str, now: datetime) -> None:
    """See whether everything that must hold does, and keep the answer."""
    operations.check_invariants(now=now)


def roll_up_everything(_period: str, now: datetime) -> None:
    """Count the days that lately changed again, organization by organization."""
    for organization_id in queries.list_organization_ids():
        operations.roll_up(organization_id=organization_id, now=now)
