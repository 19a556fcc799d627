from typing import override

from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "apps.core"
    label = "core"

    @override
    def ready(self) -> None:
        from apps.core import checks, tasks  # noqa: F401, PLC0415  (they register themselves)
