"""The job that keeps the charts of the home page fresh."""

from datetime import datetime

from apps.backoffice import operations, queries
from apps.core import jobs

MINUTES = 5


def register() -> None:
    """Declare the job; called when the app is ready."""
    jobs.declare(
        kind="backoffice.roll_up", schedule=jobs.Every(minutes=MINUTES), run=roll_up_everything
    )


def roll_up_everything(_period: str, now: datetime) -> None:
    """Count the days that lately changed again, organization by organization."""
    for organization_id in queries.list_organization_ids():
        operations.roll_up(organization_id=organization_id, now=now)
