from typing import override

from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "apps.webhooks"
    label = "webhooks"

    @override
    def ready(self) -> None:
        from apps.core import jobs, outbox, work  # noqa: PLC0415  (once the apps are loaded)
        from apps.webhooks import handlers, models, operations, registry, tasks  # noqa: PLC0415
        from apps.webhooks.rules.inbound import read_standard  # noqa: PLC0415

        # In order: an endpoint may ask for that, and a delivery waits for those that are there.
        outbox.register_consumer(name="webhooks", handler=handlers.fan_out, ordered=True)
        work.register_kind(
            name=operations.LANE_KIND,
            model=models.WebhookLane,
            task="webhooks.send_due",
            queue="webhooks",
            condition="NOT is_slow",
        )
        # The same rows: its task takes only the lanes of endpoints that answer slowly.
        work.register_kind(
            name=operations.SLOW_LANE_KIND,
            model=models.WebhookLane,
            task="webhooks.send_slow_due",
            queue="webhooks_slow",
            condition="is_slow",
        )
        work.register_kind(
            name=operations.INBOUND_KIND,
            model=models.InboundEvent,
            task="webhooks.work_inbound",
            queue="events",
        )
        registry.register_provider(name="sandbox", read=read_standard)
        jobs.declare(
            kind="webhooks.purge_inbox", schedule=jobs.Every(minutes=60), run=tasks.purge_inbox
        )
