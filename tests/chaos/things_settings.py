"""Kassa as it runs locally, and above its inbox the tests' own app of things."""

from config.settings.local import *  # noqa: F403
from config.settings.local import INSTALLED_APPS as _OURS

INSTALLED_APPS = [*_OURS, "tests.chaos.things_app.ThingsConfig"]
