"""The Django app of `bench._cards`: its processes' settings are `bench.inbound_settings`."""

from typing import override

from django.apps import AppConfig


class CardsConfig(AppConfig):
    name = "bench._card_app"
    label = "bench_cards"

    @override
    def ready(self) -> None:
        from bench import _cards  # noqa: PLC0415  (once the apps are loaded)

        _cards.register()
