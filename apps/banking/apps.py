from datetime import time
from typing import override

from django.apps import AppConfig


class BankingConfig(AppConfig):
    name = "apps.banking"
    label = "banking"

    @override
    def ready(self) -> None:
        from apps.banking import operations, tasks  # noqa: PLC0415  (models are loaded by now)
        from apps.banking.models import (  # noqa: PLC0415
            BankFileWork,
            ConnectionPoll,
            LineQueue,
        )
        from apps.core import jobs, work  # noqa: PLC0415

        work.register_kind(
            name=operations.FILES_KIND,
            model=BankFileWork,
            task="banking.import_due",
            queue="default",
        )
        work.register_kind(
            name=operations.LINES_KIND,
            model=LineQueue,
            # Who matches lines is above; the name is all that is known here.
            task="reconciliation.match_due",
            queue="money",
        )
        work.register_kind(
            name=operations.POLLS_KIND,
            model=ConnectionPoll,
            task="banking.fetch_due",
            queue="default",
        )
        jobs.declare(
            kind="banking.seed_calendar",
            schedule=jobs.Daily(time(3), "Europe/Berlin"),
            run=tasks.seed_period,
        )
