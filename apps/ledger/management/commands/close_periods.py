"""manage.py close_periods: close the months that two people agreed to close."""

from typing import override
from uuid import UUID

import structlog
from django.core.management.base import BaseCommand, CommandError

from apps.core import clock
from apps.core.ids import encode_id
from apps.ledger import operations, queries
from apps.ledger.states import PeriodState

log = structlog.stdlib.get_logger("kassa.ledger")


class Command(BaseCommand):
    help = (
        "Take the second step of every close that is under way; the scheduled job does the same. "
        "A month that a fault keeps from it is named at the end, and the exit code is 1."
    )

    @override
    def handle(self, **_: object) -> None:
        closing = queries.list_closing()
        failed = []
        for organization_id, period_id in closing:
            try:
                self._close(organization_id, period_id)
            # The boundary, as in the job: one organisation's fault must not keep the others'
            # months open.
            except Exception as fault:
                log.exception("period_not_closed", period_id=str(period_id))
                name = encode_id("org", organization_id)
                failed.append(f"{name}, period {period_id}: {type(fault).__name__}")
        if not closing:
            self.stdout.write("No month is closing.")
        if failed:
            told = "; ".join(failed)
            raise CommandError(f"Not closed, for a fault that the log has: {told}.")

    def _close(self, organization_id: UUID, period_id: UUID) -> None:
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
