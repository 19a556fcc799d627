"""
Celery in a process whose clock is wrong: `off_time.py <seconds> <arguments of celery>`.

Postgres, the broker and every other process keep theirs. SIGUSR1 sets this one right.
"""

import os
import signal
import sys
import time
from datetime import datetime, timedelta, tzinfo
from typing import Self, override

_off = [float(sys.argv.pop(1))]
_time = time.time


def set_right(*_: object) -> None:
    _off.append(0.0)
    os.write(2, b"the clock is set right\n")


signal.signal(signal.SIGUSR1, set_right)
# Before anybody takes a reference to it.
time.time = lambda: _time() + _off[-1]

from celery.app import base  # noqa: E402
from celery.worker import request  # noqa: E402
from django.utils import timezone  # noqa: E402

_now = timezone.now


class OffTime(datetime):
    """The clock by which Celery says when a message will be too old, and tells whether it is."""

    @override
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(seconds=_off[-1])


timezone.now = lambda: _now() + timedelta(seconds=_off[-1])
base.datetime = request.datetime = OffTime

from celery.__main__ import main  # noqa: E402

if __name__ == "__main__":
    main()
