from typing import override

from django.apps import AppConfig
from django.conf import settings


class CoreConfig(AppConfig):
    name = "apps.core"
    label = "core"

    @override
    def ready(self) -> None:
        from apps.core import checks, failpoints, partitions, retention, tasks  # noqa: F401, PLC0415  (checks and tasks register themselves)

        failpoints.arm(settings.KASSA_FAILPOINTS)
        retention.register_jobs()
        partitions.register()
