from typing import override

from django.apps import AppConfig


class ReconciliationConfig(AppConfig):
    name = "apps.reconciliation"
    label = "reconciliation"

    @override
    def ready(self) -> None:
        from apps.reconciliation import handlers, tasks  # noqa: F401, PLC0415  (models are loaded)

        handlers.register()
