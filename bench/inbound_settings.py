"""Kassa as it runs locally, and above it one app that takes a provider's events."""

from config.settings.local import *  # noqa: F403
from config.settings.local import INSTALLED_APPS as _OURS

INSTALLED_APPS = [*_OURS, "bench._card_app.CardsConfig"]
