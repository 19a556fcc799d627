from typing import override

from django.apps import AppConfig


class ApprovalsConfig(AppConfig):
    name = "apps.approvals"
    label = "approvals"

    @override
    def ready(self) -> None:
        from apps.approvals import tasks  # noqa: PLC0415  (models are ready only now)

        tasks.register()
