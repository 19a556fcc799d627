from typing import override

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class BackofficeConfig(AppConfig):
    default = True
    name = "apps.backoffice"
    label = "backoffice"

    @override
    def ready(self) -> None:
        from apps.backoffice import handlers, tasks  # noqa: PLC0415  (needs the apps loaded)
        from apps.core.admin_base import register_checks  # noqa: PLC0415

        register_checks()
        handlers.register()
        tasks.register()


class KassaAdminConfig(AdminConfig):
    """Django's admin, with our site as the one that screens are registered on."""

    default_site = "apps.backoffice.site.KassaSite"
