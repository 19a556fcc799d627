from typing import override

from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    name = "apps.payments"
    label = "payments"

    @override
    def ready(self) -> None:
        from apps.accounts.registry import register_customer_opener  # noqa: PLC0415  (apps are loaded)
        from apps.payments import handlers  # noqa: PLC0415

        register_customer_opener("payments", handlers.open_customer_accounts)
