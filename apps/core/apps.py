from typing import override

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate  # noqa: TID251  (of migrations, not of rows)


class CoreConfig(AppConfig):
    name = "apps.core"
    label = "core"

    @override
    def ready(self) -> None:
        from apps.core import checks, failpoints, partitions, planner, retention, tasks  # noqa: F401, PLC0415  (checks and tasks register themselves)

        post_migrate.connect(planner.after_migrations, sender=self)
        failpoints.arm(settings.KASSA_FAILPOINTS)
        retention.register_jobs()
        partitions.register()
