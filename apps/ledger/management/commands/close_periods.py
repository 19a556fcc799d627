"""manage.py close_periods: close the months that two people agreed to close."""

from typing import override

from django.core.management.base import BaseCommand

from apps.core import clock
from apps.ledger import operations, queries
from apps.ledger.states import PeriodState


class Command(BaseCommand):
    help = "Take the second step of every close that is under way; the scheduled job does the same."

    @override
    def handle(self, **_: object) -> None:
        closing = queries.list_closing()
        for organization_id, period_id in closing:
            period = operations.finish_closing(
                organization_id=organization_id, period_id=period_id, now=clock.now()
            )
            told = [f"{period}: {period.state}"]
            if period.state == PeriodState.CLOSING:
                told += [
                    blocker.text
                    for blocker in queries.period_blockers(
                        organization_id=organization_id, month=period.month, now=clock.now()
                    )
                ]
            self.stdout.write(". ".join(told))
        if not closing:
            self.stdout.write("No month is closing.")
