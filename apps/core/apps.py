from typing import override

from django.apps import AppConfig
from django.conf import settings


class CoreConfig(AppConfig):
    name = "apps.core"
    label = "core"

    @override
    def ready(self) -> None:
        from apps.core import checks, failpoints, tasks  # noqa: F401, PLC0415  (they register themselves)

        failpoints.arm(settings.KASSA_FAILPOINTS)
