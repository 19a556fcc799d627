from typing import override

from django.apps import AppConfig


class ReconciliationConfig(AppConfig):
    name = "apps.reconciliation"
    label = "reconciliation"

    @override
    def ready(self) -> None:
        from apps.reconciliation import handlers  # noqa: PLC0415  (models are ready only now)

        handlers.register()
