"""What the benchmarks of faults begin with, and how they end processes."""

import os
from pathlib import Path

import pytest

from apps.core import work
from apps.core.models import EventWork, JobRun, OutboxBatch
from apps.webhooks.models import InboundEvent, WebhookLane
from bench import _ready, faults, processes
from tests.support import empty_broker, wait_until

ORDER = {"make": "due", "url": "http://127.0.0.1:9/a"}


@pytest.mark.django_db(transaction=True)
class TestReady:
    def test_leaves_work_of_each_kind_due(self):
        _ready.prepare(ORDER)()
        empty_broker()

        models = (OutboxBatch, EventWork, WebhookLane, InboundEvent, JobRun)
        assert {model._meta.db_table for model in models} == set(faults._KINDS.values())
        for model in models:
            # Rows of several would be claimed one by one, and leave a kind without a claimant.
            [row] = model.objects.filter(state="pending").order_by("id")[:1]
            assert work.claim_due(model, limit=1, lease_seconds=60), row
        assert set(OutboxBatch.objects.values_list("state", flat=True)) == {"done", "leased"}


class TestDoomed:
    @pytest.fixture
    def group(self, monkeypatch, tmp_path):
        """A command that starts a child, and ignores that it is told to end."""
        note = tmp_path / "pids"
        script = tmp_path / "stubborn.sh"
        script.write_text(f"trap '' TERM\nsleep 60 &\necho $! $$ > {note}\nwait\n")
        monkeypatch.setattr(processes, "command", lambda _name: f"sh {script}")
        return note

    def test_die_with_their_children(self, group):
        with processes.doomed("worker", environment=os.environ) as kill:
            wait_until(lambda: group.exists() and len(group.read_text().split()) == 2)
            kill()

            wait_until(lambda: not any(map(is_alive, group.read_text().split())))

    def test_that_ended_by_themselves_end_the_run(self, monkeypatch):
        monkeypatch.setattr(processes, "command", lambda _name: "true")

        with processes.doomed("worker", environment=os.environ) as kill:
            wait_until(lambda: ended(kill))


def ended(kill):
    try:
        kill()
    except RuntimeError as fault:
        return "ended by itself" in str(fault)
    return False


def is_alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # Dead, and not yet waited for by whoever adopted it.
    return stat.rpartition(")")[2].split()[0] != "Z"
