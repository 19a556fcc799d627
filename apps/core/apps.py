from typing import override

from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "apps.core"
    label = "core"

    @override
    def ready(self) -> None:
        from apps.core import (  # noqa: PLC0415
            checks,  # noqa: F401  (registers itself)
            jobs,
            outbox,
            partitions,
            retention,
        )

        outbox.register_work_kinds()
        jobs.register_work_kind()
        retention.register_jobs()
        partitions.register()
