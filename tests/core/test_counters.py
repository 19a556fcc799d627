"""What processes count: added up over all of them, past their end, and in nobody's way."""

import errno
import threading

import pytest

from apps.core import counters, nudging, work
from apps.core.counters import Counter, Histogram
from apps.core.models import EventWork
from tests.core import test_nudges, test_work
from tests.support import kill_hard, running

CLAIMED = 'kassa_work_claims_total{kind="core.consume",outcome="%s"}'


@pytest.fixture
def things():
    return Counter("kassa_things_total", "Things.", ("color",))


# Another process, which counts and then does what the test says.
COUNTS = """
import os
import threading
import django

django.setup()
from apps.core.counters import Counter

things = Counter("kassa_things_total", "Things.", ("color",))
for _ in range(1000):
    things.add(color="red")
%s
"""


def counting(metrics_folder, then=""):
    return running("-c", COUNTS % then, KASSA_METRICS_DIR=str(metrics_folder))


def files(metrics_folder):
    return sorted(path.name for path in metrics_folder.iterdir())


class TestAdd:
    def test_adds_up_by_series(self, metrics_folder, things):
        things.add(color="red")
        things.add(2, color="blue")
        things.add(color="red")

        assert counters.read() == {
            'kassa_things_total{color="blue"}': 2.0,
            'kassa_things_total{color="red"}': 2.0,
        }

    def test_loses_nothing_among_threads(self, metrics_folder, things):
        threads = [
            threading.Thread(target=lambda: [things.add(color="red") for _ in range(1000)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert counters.read() == {'kassa_things_total{color="red"}': 8000.0}

    def test_writes_a_value_as_prometheus_reads_it(self, metrics_folder, things):
        things.add(color='a "b"\\\n')

        assert list(counters.read()) == [r'kassa_things_total{color="a \"b\"\\\n"}']

    def test_refuses_a_label_that_was_not_declared(self, metrics_folder, things):
        with pytest.raises(KeyError):
            things.add(size="large")

    def test_counts_nowhere_without_a_folder(self, metrics_folder, things, settings):
        settings.KASSA_METRICS_DIR = ""

        things.add(color="red")

        assert counters.read() == {}
        assert not metrics_folder.exists()

    def test_passes_over_a_disk_that_is_full(self, metrics_folder, things, monkeypatch):
        def no_room(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(counters.os, "posix_fallocate", no_room)

        things.add(color="red")

        assert counters.read() == {}

    def test_passes_over_a_folder_that_cannot_be_made(self, metrics_folder, things):
        metrics_folder.write_text("a file")

        things.add(color="red")

        assert counters.read() == {}

    def test_passes_over_what_has_no_room_and_goes_on_with_the_rest(self, metrics_folder, things):
        for number in range(counters._RECORDS_MAX + 1):
            things.add(color=str(number))
        things.add(color="0")
        things.add(color="x" * 200)

        found = counters.read()
        assert len(found) == counters._RECORDS_MAX
        assert found['kassa_things_total{color="0"}'] == 2.0


class TestObserve:
    def test_counts_by_the_bounds_that_were_kept_and_adds_up(self, metrics_folder):
        waits = Histogram("kassa_waits_seconds", "Waits.", ("color",), (0.5, 30))

        waits.observe(0.5, color="red")
        waits.observe(2, times=3, color="red")
        waits.observe(31, color="red")

        assert counters.read() == {
            'kassa_waits_seconds_bucket{color="red",le="0.5"}': 1.0,
            'kassa_waits_seconds_bucket{color="red",le="30"}': 4.0,
            'kassa_waits_seconds_bucket{color="red",le="+Inf"}': 5.0,
            'kassa_waits_seconds_sum{color="red"}': 37.5,
            'kassa_waits_seconds_count{color="red"}': 5.0,
        }

    def test_keeps_series_of_other_labels_apart(self, metrics_folder):
        waits = Histogram("kassa_waits_seconds", "Waits.", ("color",), (1,))

        waits.observe(0, color="red")
        waits.observe(5, color="blue")

        found = counters.read()
        assert found['kassa_waits_seconds_bucket{color="red",le="1"}'] == 1.0
        assert 'kassa_waits_seconds_bucket{color="blue",le="1"}' not in found
        assert found['kassa_waits_seconds_bucket{color="blue",le="+Inf"}'] == 1.0


class TestProcesses:
    def test_that_was_killed_has_its_counts_kept_and_its_file_used_again(
        self, metrics_folder, things
    ):
        with counting(
            metrics_folder, "print('counted', flush=True); threading.Event().wait()"
        ) as first:
            assert first.stdout.readline() == "counted\n"
            kill_hard(first)

        with counting(metrics_folder) as second:
            assert second.wait(30) == 0

        assert counters.read() == {'kassa_things_total{color="red"}': 2000.0}
        assert files(metrics_folder) == ["0.counters"]

    def test_of_two_releases_keep_each_others_counts(self, metrics_folder, things, monkeypatch):
        """The earlier one's files have room for fewer series, and it may come back."""
        with monkeypatch.context() as earlier:
            earlier.setattr(counters, "_FILE_BYTES", 2 * counters._RECORD_BYTES)
            things.add(color="0")
            things.add(color="1")
        counters._begin_anew()

        assert sum(counters.read().values()) == 2
        for color in ("0", "1", "2"):
            things.add(color=color)

        monkeypatch.setattr(counters, "_FILE_BYTES", 2 * counters._RECORD_BYTES)
        counters._begin_anew()
        things.add(color="1")
        things.add(color="3")

        series = 'kassa_things_total{color="%s"}'
        assert counters.read() == {series % "0": 2, series % "1": 3, series % "2": 1}
        assert files(metrics_folder) == ["0.counters"]

    def test_at_once_have_a_file_each(self, metrics_folder, things):
        things.add(color="red")

        with counting(metrics_folder) as other:
            assert other.wait(30) == 0

        assert counters.read() == {'kassa_things_total{color="red"}': 1001.0}
        assert files(metrics_folder) == ["0.counters", "1.counters"]

    def test_of_a_fork_has_a_file_of_its_own(self, metrics_folder):
        child = (
            "if os.fork() == 0:\n"
            "    for _ in range(1000): things.add(color='red')\n"
            "    os._exit(0)\n"
            "for _ in range(1000): things.add(color='red')\n"
            "assert os.wait()[1] == 0"
        )

        with counting(metrics_folder, child) as process:
            assert process.wait(30) == 0

        assert counters.read() == {'kassa_things_total{color="red"}': 3000.0}
        assert files(metrics_folder) == ["0.counters", "1.counters"]


@pytest.mark.django_db(transaction=True)
class TestClaims:
    def test_are_counted_by_what_they_were(self, metrics_folder):
        test_work.add(2)
        [_, second] = test_work.claim()
        EventWork.objects.filter(id=second.id).update(lapses=work.LAPSES_MAX - 1)
        test_work.expire_leases()

        # One that lapsed a claim, in either order; a fifth lapse in a row sets it aside.
        for _ in range(2):
            test_work.claim()

        assert EventWork.objects.get(id=second.id).state == "quarantined"
        assert counters.read() == {
            CLAIMED % "lapsed": 1.0,
            CLAIMED % "leased": 2.0,
            CLAIMED % "quarantined": 1.0,
        }

    def test_of_nothing_are_not_counted(self, metrics_folder):
        assert test_work.claim() == []

        assert counters.read() == {}


class TestPublishErrors:
    def test_are_counted_by_nudges_and_sweeps(self, metrics_folder, monkeypatch):
        def away(*_, **__):
            raise ConnectionError

        monkeypatch.setattr(nudging.current_app.amqp.Producer, "publish", away)

        nudging.Nudger().send(test_nudges.KIND)
        with pytest.raises(ConnectionError):
            nudging.send_hint(test_nudges.KIND)

        assert counters.read() == {'kassa_publish_errors_total{queue="events"}': 2.0}
