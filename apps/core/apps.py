from typing import override

from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "apps.core"
    label = "core"

    @override
    def ready(self) -> None:
        from apps.core import checks, jobs, outbox, work  # noqa: F401, PLC0415  (registers itself)

        outbox.register_work_kinds()
        jobs.register_work_kind()
