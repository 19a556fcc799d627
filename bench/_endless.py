"""A sender's memory against answers without end; runs as a child, its memory being its own."""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from apps.core import clock
from apps.core.ids import encode_id, new_id
from apps.webhooks import queries, tasks
from apps.webhooks.adapters.sender import HEAD_BYTES_MAX, Sender
from apps.webhooks.operations import Owed
from apps.webhooks.rules import signing, targets
from bench.receiver import Receiver, receiver

_WARM_UP: Final = 20
_SELF: Final = Path("/proc/self")
# Linux: the peak counts from here on.
_FORGET_PEAK: Final = "5"


def prepare(order: Mapping[str, Any]) -> Callable[[], dict[str, float]]:
    """Return what sends so often and says by how many KiB the process was larger meanwhile."""

    def measure() -> dict[str, float]:
        with receiver() as far:
            _send(far, _WARM_UP)
            (_SELF / "clear_refs").write_text(_FORGET_PEAK)
            before, sent_before = _kib("VmRSS"), far.endless_bytes()
            _send(far, order["answers"])
            return {
                # The kernel adds up pages in batches of each processor: what did not grow may read
                # as a little smaller.
                "grown_kib": max(_kib("VmHWM") - before, 0),
                "before_kib": before,
                "sent_bytes": far.endless_bytes() - sent_before,
            }

    return measure


def _send(far: Receiver, count: int) -> None:
    policy = queries.get_policy()
    target = targets.parse_url(far.url("/endless"), policy=policy)
    secret = signing.write_secret(os.urandom(signing.SECRET_BYTES))
    with closing(Sender(policy=policy)) as sender:
        for _ in range(count):
            owed = Owed(
                delivery_id=new_id(), message_id=encode_id("evt", new_id()), number=1, body=b"{}"
            )
            attempt = sender.send(
                tasks.sign(owed, target=target, secrets=(secret,), at=clock.now())
            )
            # The status is the answer, and of the body the beginning is kept.
            if not attempt.succeeded or len(attempt.head) != HEAD_BYTES_MAX:
                msg = f"An endless answer came to be {attempt.outcome}, {len(attempt.head)} kept."
                raise RuntimeError(msg)


def _kib(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", (_SELF / "status").read_text(), re.MULTILINE)
    if found is None:
        msg = f"This system does not say {name}."
        raise RuntimeError(msg)
    return int(found[1])
