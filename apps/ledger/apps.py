from typing import override

from django.apps import AppConfig
from django.core import checks


class LedgerConfig(AppConfig):
    name = "apps.ledger"
    label = "ledger"

    @override
    def ready(self) -> None:
        from apps.ledger import tasks  # noqa: PLC0415  (models are ready only now)
        from apps.ledger.management import rights  # noqa: PLC0415

        tasks.register()
        checks.register(rights.books_are_out_of_reach, checks.Tags.database, deploy=True)
