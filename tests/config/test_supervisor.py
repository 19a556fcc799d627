"""A real worker under a real supervisor: stopped, killed, ended, and with its broker away."""

import json
import os
import signal
import sys
from itertools import chain
from pathlib import Path

import pytest
from django.db import connection

from apps.core import clock, heartbeats
from apps.core.models import QueueHeartbeat
from bench import processes
from bench.broker import broker
from bench.webhooks import WORKERS
from config import supervisor
from config.settings._celery import QUEUES
from config.supervisor import Limits, Marks, Supervisor
from tests.support import empty_broker, running_supervised, wait_until, worker_of

pytestmark = pytest.mark.django_db(transaction=True)

SILENT = 5


@pytest.fixture(autouse=True)
def _empty_broker():
    empty_broker()
    yield
    empty_broker()


def supervised(*queues, **environment):
    return running_supervised(*queues, silent_seconds=SILENT, **environment)


def has_beaten(queue="risk", *, since=None):
    rows = QueueHeartbeat.objects.filter(queue=queue, beaten_at__isnull=False)
    return (rows if since is None else rows.filter(beaten_at__gt=since)).exists()


class TestWorker:
    def test_answers_on_each_of_its_queues(self):
        with supervised("risk", "settlement") as process:
            wait_until(lambda: has_beaten("risk") and has_beaten("settlement"))
            process.terminate()
            said, _ = process.communicate(timeout=60)

        assert "app initialization" not in said
        rows = {row.queue: row for row in QueueHeartbeat.objects.all()}
        assert rows.keys() == {"risk", "settlement"}
        assert all(row.sent_at and "@" in row.worker for row in rows.values())

    def test_that_stops_taking_tasks_is_replaced(self):
        with supervised("risk") as process:
            wait_until(has_beaten)
            stopped = worker_of(process)
            os.kill(stopped, signal.SIGSTOP)

            wait_until(lambda: worker_of(process) not in {stopped, None}, seconds=60)
            replaced_at = clock.database_now()
            wait_until(lambda: has_beaten(since=replaced_at), seconds=60)

            # It did not end when it was asked to, and so by force, with its children.
            assert not Path(f"/proc/{stopped}").exists()
            assert heartbeats.list_silent(queues=["risk"], seconds=SILENT) == []

    def test_that_dies_is_started_anew(self):
        with supervised("risk") as process:
            wait_until(has_beaten)
            killed = worker_of(process)
            os.kill(killed, signal.SIGKILL)

            wait_until(lambda: worker_of(process) not in {killed, None}, seconds=60)
            replaced_at = clock.database_now()
            wait_until(lambda: has_beaten(since=replaced_at), seconds=60)

    def test_ends_with_its_supervisor(self):
        with supervised("risk") as process:
            wait_until(has_beaten)
            worker = worker_of(process)

            process.terminate()

            assert process.wait(timeout=30) == 0
            assert not Path(f"/proc/{worker}").exists()

    def test_is_not_replaced_because_its_broker_is_away(self):
        with broker() as away, supervised("risk", REDIS_URL=away.url) as process:
            wait_until(has_beaten)
            worker = worker_of(process)
            away.stop()

            # One for each look: twice as many as make a silence.
            _read_until(process, "heartbeat_not_sent", times=2 * SILENT)

            assert worker_of(process) == worker
            away.start()


def _read_until(process, event, *, times):
    seen = 0
    while seen < times:
        line = process.stdout.readline()
        assert line, "The supervisor ended."
        assert "worker_silent" not in line
        assert "worker_started" not in line
        seen += line.startswith("{") and json.loads(line)["event"] == event


class TestPauses:
    def test_between_starts_grow_to_a_minute(self, monkeypatch):
        ends_at_once = [sys.executable, "-c", "pass", "-Q", "risk"]
        made = Supervisor(ends_at_once, limits=Limits(), environment=os.environ)
        rests = []

        def rest(_, seconds):
            rests.append(seconds)
            if len(rests) == 8:
                made.end()

        monkeypatch.setattr(Supervisor, "_rest", rest)

        made.run()

        assert rests == [1, 2, 4, 8, 16, 32, 60, 60]


class TestMarks:
    @pytest.fixture
    def marks(self, tmp_path):
        return Marks(tmp_path, start_seconds=60)

    def look(self, marks, at):
        marks.look(now=at)
        return marks.seen_at

    def test_of_a_task_that_begins_and_of_one_that_ends_are_signs_of_life(self, marks, tmp_path):
        (tmp_path / "1").touch()
        assert self.look(marks, 10.0) == 10.0

        (tmp_path / "1").unlink()
        # Between the two looks another may have begun and ended.
        assert self.look(marks, 20.0) == 20.0
        assert self.look(marks, 30.0) == 20.0

    def test_of_a_task_at_work_is_one_until_the_time_of_any_task_is_over(self, marks, tmp_path):
        (tmp_path / "1").touch()

        assert [self.look(marks, at) for at in (0.0, 60.0, 119.0)] == [0.0, 60.0, 119.0]
        # Of a child that was killed: no other task of the worker took its place since.
        assert [self.look(marks, at) for at in (120.0, 180.0)] == [119.0, 119.0]

    def test_of_a_later_task_has_the_time_of_its_own(self, marks, tmp_path):
        (tmp_path / "1").touch()
        self.look(marks, 0.0)

        (tmp_path / "1").unlink()
        (tmp_path / "1").touch()
        os.utime(tmp_path / "1", ns=(1, 1))
        self.look(marks, 100.0)

        assert self.look(marks, 219.0) == 219.0

    def test_that_are_missing_are_a_start_until_its_time_is_over(self, marks):
        begun = marks.seen_at

        assert self.look(marks, begun - 1) == begun

    def test_whose_folder_is_gone_say_nothing(self, marks, tmp_path):
        begun = marks.seen_at
        tmp_path.rmdir()

        assert self.look(marks, begun + 1) == begun


class TestProcfile:
    def test_has_each_queue_worked_under_a_supervisor_and_slow_receivers_by_themselves(self):
        commands = [processes.command(name).split() for name in WORKERS if name != "beat"]

        assert all("config.supervisor" in command for command in commands)
        queues = [command[command.index("-Q") + 1].split(",") for command in commands]
        assert sorted(chain.from_iterable(queues)) == sorted(QUEUES)
        assert ["webhooks_slow"] in queues

    def test_has_webhooks_sent_by_threads_and_all_else_worked_by_children(self):
        pools = {}
        for name in WORKERS:
            if name != "beat":
                command = processes.command(name).split()
                pool = command[command.index("-P") + 1] if "-P" in command else "prefork"
                role = next(part for part in command if part.startswith("KASSA_ROLE="))
                queues = command[command.index("-Q") + 1].split(",")
                pools |= dict.fromkeys(queues, (pool, role.removeprefix("KASSA_ROLE=")))

        assert pools.pop("webhooks") == pools.pop("webhooks_slow") == ("threads", "threads")
        assert set(pools.values()) == {("prefork", "worker")}


class TestCommand:
    def test_names_the_queues(self):
        made = Supervisor(["celery", "worker", "-Q", "money,risk"], limits=Limits(), environment={})

        assert made.queues == ["money", "risk"]

    def test_without_queues_is_refused(self):
        with pytest.raises(SystemExit, match="-Q"):
            Supervisor(["celery", "worker"], limits=Limits(), environment={})

    def test_is_watched_by_the_numbers_of_the_design(self):
        assert Limits() == Limits(
            beat_seconds=15, silent_seconds=60, start_seconds=60, grace_seconds=30
        )


class TestDatabaseAway:
    def test_calls_no_queue_silent(self, monkeypatch):
        sent = []
        monkeypatch.setattr(supervisor.Supervisor, "_send", sent.append)
        made = Supervisor(["celery", "-Q", "risk"], limits=Limits(), environment={})
        connection.close()
        monkeypatch.setitem(connection.settings_dict, "NAME", "no_such_database")

        assert made._look() == []

        monkeypatch.undo()
        # What could not be recorded was not sent.
        assert sent == []
        assert not QueueHeartbeat.objects.exists()
