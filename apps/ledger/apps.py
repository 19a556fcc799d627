from typing import override

from django.apps import AppConfig


class LedgerConfig(AppConfig):
    name = "apps.ledger"
    label = "ledger"

    @override
    def ready(self) -> None:
        from apps.ledger import tasks  # noqa: PLC0415  (models are ready only now)

        tasks.register()
