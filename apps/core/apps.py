from typing import override

from django.apps import AppConfig
from django.conf import settings


class CoreConfig(AppConfig):
    name = "apps.core"
    label = "core"

    @override
    def ready(self) -> None:
        from apps.core import checks, failpoints, jobs, outbox, work  # noqa: F401, PLC0415  (registers itself)

        failpoints.arm(settings.KASSA_FAILPOINTS)
        outbox.register_work_kinds()
        jobs.register_work_kind()
