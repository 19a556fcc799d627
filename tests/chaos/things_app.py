"""The Django app of `tests.webhooks.things`: its processes' settings are `things_settings`."""

from typing import override

from django.apps import AppConfig


class ThingsConfig(AppConfig):
    name = "tests.chaos.things_app"
    label = "tests_things"

    @override
    def ready(self) -> None:
        from tests.webhooks import things  # noqa: PLC0415  (once the apps are loaded)

        things.register(things.Things(), together=True)
