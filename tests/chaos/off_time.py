"""
Celery in a process whose clock is wrong: `off_time.py <seconds> <arguments of celery>`.

Postgres, the broker and every other process keep theirs.
"""

import sys
import time
from datetime import datetime, timedelta, tzinfo
from typing import Self, override

_SECONDS = float(sys.argv.pop(1))
_time = time.time
# Before anybody takes a reference to it.
time.time = lambda: _time() + _SECONDS

from celery.app import base  # noqa: E402
from celery.worker import request  # noqa: E402
from django.utils import timezone  # noqa: E402

_now = timezone.now


class OffTime(datetime):
    """The clock by which Celery says when a message will be too old, and tells whether it is."""

    @override
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(seconds=_SECONDS)


timezone.now = lambda: _now() + timedelta(seconds=_SECONDS)
base.datetime = request.datetime = OffTime

from celery.__main__ import main  # noqa: E402

if __name__ == "__main__":
    main()
