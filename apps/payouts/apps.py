from typing import override

from django.apps import AppConfig


class PayoutsConfig(AppConfig):
    name = "apps.payouts"
    label = "payouts"

    @override
    def ready(self) -> None:
        from apps.payouts import handlers, tasks  # noqa: PLC0415  (models are ready only now)

        handlers.register()
        tasks.register()
