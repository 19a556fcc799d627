from config.memory import collect_seldom

# Before the thousands of modules behind it are loaded, which is half a million objects that stay.
collect_seldom()

from config.celery import app as celery_app  # noqa: E402

__all__ = ["celery_app"]
