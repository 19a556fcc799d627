from typing import override

from django.apps import AppConfig


class LedgerConfig(AppConfig):
    name = "apps.ledger"
    label = "ledger"

    @override
    def ready(self) -> None:
        from apps.accounts.registry import register_customer_opener  # noqa: PLC0415  (apps are loaded)
        from apps.ledger import handlers  # noqa: PLC0415

        register_customer_opener("ledger", handlers.open_customer_accounts)
