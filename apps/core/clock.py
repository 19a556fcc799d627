"""
The clocks.

Only interfaces (views, tasks, admin, commands) read this machine's; operations get `now`. The
database's is read by whoever compares with what it wrote.
"""

from datetime import datetime

from django.db import connection
from django.utils import timezone


def now() -> datetime:
    """Return the current instant by this machine's clock, aware, in UTC."""
    return timezone.now()


def database_now() -> datetime:
    """Return it by the database's, which leases, due times and jobs are on: all see the same."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        [(instant,)] = cursor.fetchall()
    at: datetime = instant
    return at
