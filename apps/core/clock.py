"""The clock. Only interfaces (views, tasks, admin, commands) read it; operations get `now`."""

from datetime import datetime

from django.utils import timezone


def now() -> datetime:
    """Return the current instant, aware, in UTC."""
    return timezone.now()
