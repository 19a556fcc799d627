from typing import override

from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "apps.webhooks"
    label = "webhooks"

    @override
    def ready(self) -> None:
        from apps.core import outbox  # noqa: PLC0415  (once the apps are loaded)
        from apps.webhooks import handlers, tasks  # noqa: F401, PLC0415  (tasks register themselves)

        # In order: an endpoint may ask for that, and a delivery waits for those that are there.
        outbox.register_consumer(name="webhooks", handler=handlers.fan_out, ordered=True)
