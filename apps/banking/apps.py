from datetime import time
from typing import override

from django.apps import AppConfig


class BankingConfig(AppConfig):
    name = "apps.banking"
    label = "banking"

    @override
    def ready(self) -> None:
        from apps.banking import tasks  # noqa: PLC0415  (models are loaded by now)
        from apps.core import jobs  # noqa: PLC0415

        jobs.declare(
            kind="banking.seed_calendar",
            schedule=jobs.Daily(time(3), "Europe/Berlin"),
            run=tasks.seed_period,
        )
