"""A worker all of whose threads are at work runs no heartbeat, and is not replaced for that."""

from __future__ import annotations

import pytest

from apps.core import heartbeats
from tests.support import empty_broker, running_supervised, wait_until, worker_of
from tests.webhooks import receiver
from tests.webhooks.factories import create_endpoint, owe

SILENT = 6


@pytest.fixture(autouse=True)
def _empty_broker():
    empty_broker()
    yield
    empty_broker()


def test_is_let_finish(organization, far):
    far.answers = [receiver.hang]
    create_endpoint(organization, far.url, event_types=["thing.*"], max_in_flight=4)
    owe(organization, *(f"thing_{number}" for number in range(20)))

    # One thread: while it waits for the receiver, up to 15 s each time, the queue is not read.
    with running_supervised(
        "webhooks", pool="threads", concurrency=1, silent_seconds=SILENT
    ) as process:
        far.wait_for(1)
        worker = worker_of(process)

        # By then the supervisor has looked at a queue that was silent for too long, and again.
        wait_until(lambda: heartbeats.list_silent(queues=["webhooks"], seconds=2 * SILENT) != [])

        assert worker_of(process) == worker
