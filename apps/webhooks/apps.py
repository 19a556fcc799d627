from typing import override

from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "apps.webhooks"
    label = "webhooks"

    @override
    def ready(self) -> None:
        from apps.core import outbox  # noqa: PLC0415  (once the apps are loaded)
        from apps.webhooks import handlers, registry, tasks  # noqa: PLC0415
        from apps.webhooks.rules.inbound import read_standard  # noqa: PLC0415

        # In order: an endpoint may ask for that, and a delivery waits for those that are there.
        outbox.register_consumer(name="webhooks", handler=handlers.fan_out, ordered=True)
        registry.register_provider(name="sandbox", read=read_standard)
        tasks.register()
