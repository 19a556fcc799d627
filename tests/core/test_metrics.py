"""The page that Prometheus scrapes: what it says, and that it says it whatever is away."""

import re
import socket
import urllib.error
import urllib.request
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection

from apps.core import clock, counters, heartbeats, jobs, metrics, work
from apps.core.counters import Counter, Histogram
from apps.core.jobs import Every
from apps.core.models import EventWork, JobRun
from tests.core.test_stuck import add
from tests.support import running, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def samples(text=None):
    """Return the value of each series of the page."""
    lines = (text or metrics.render()).splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {series: float(value) for series, value in pairs}


def of_kind(name, kind="core.consume"):
    return samples()[f'kassa_{name}{{kind="{kind}"}}']


class TestWork:
    def test_that_is_due_is_counted_and_the_oldest_told(self):
        add(3, due_seconds_ago=1)
        add(2, due_seconds_ago=500)
        add(4, due_seconds_ago=-60)

        assert of_kind("work_due") == 5
        assert 500 <= of_kind("work_oldest_due_seconds") < 560
        assert of_kind("work_quarantined") == 0

    def test_that_was_set_aside_is_counted_by_itself(self):
        add(2, state="quarantined", due_seconds_ago=500)
        add(1, state="done", due_seconds_ago=500)

        assert of_kind("work_quarantined") == 2
        assert (of_kind("work_due"), of_kind("work_oldest_due_seconds")) == (0, 0)

    def test_is_counted_beyond_what_a_page_shows(self):
        add(1500)

        assert of_kind("work_due") == 1500

    def test_of_every_registered_kind_is_there_before_there_is_any(self):
        found = samples()

        for kind in work.kinds():
            assert found[f'kassa_work_due{{kind="{kind.name}"}}'] == 0


class TestHeartbeats:
    def test_have_an_age_that_is_infinite_where_there_was_none(self):
        heartbeats.record_beat(queue="money", worker="worker@here")

        found = samples()

        ages = {
            queue.name: found[f'kassa_queue_heartbeat_age_seconds{{queue="{queue.name}"}}']
            for queue in settings.CELERY_TASK_QUEUES
        }
        assert 0 <= ages.pop("money") < 60
        assert set(ages.values()) == {float("inf")}


class TestJobs:
    @pytest.fixture
    def job(self, monkeypatch):
        monkeypatch.setattr(jobs, "_jobs", {})
        jobs.declare(kind="tests.job", schedule=Every(minutes=10), run=lambda *_: None)

    def succeeded(self, ago):
        at = clock.now() - ago
        JobRun.objects.create(kind="tests.job", period="a", due_at=at, finished_at=at, state="done")
        return at

    def test_are_told_by_their_last_success(self, job):
        at = self.succeeded(timedelta(minutes=5))

        found = samples()

        assert found['kassa_job_last_success_timestamp_seconds{job="tests.job"}'] == (
            pytest.approx(at.timestamp())
        )
        assert found['kassa_job_late{job="tests.job"}'] == 0

    def test_are_late_after_two_periods(self, job):
        self.succeeded(timedelta(minutes=21))

        assert samples()['kassa_job_late{job="tests.job"}'] == 1

    def test_that_never_ran_have_no_last_success(self, job):
        assert 'kassa_job_last_success_timestamp_seconds{job="tests.job"}' not in samples()


class TestOldestTransaction:
    def test_is_that_of_another_session(self):
        other = connection.copy()
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid(), now()")
            [(_, begun)] = cursor.fetchall()

        least = (clock.database_now() - begun).total_seconds()
        age = samples()["kassa_pg_oldest_transaction_seconds"]
        other.close()

        # Whatever a session of a test before has left open may be older still.
        assert age >= least > 0


class TestPage:
    def test_is_in_the_form_that_prometheus_reads(self, metrics_folder):
        add(1)
        Counter("kassa_things_total", "Things.", ("color",)).add(color="red")
        Histogram("kassa_waits_seconds", "Waits.", (), (0.5, 30)).observe(0.25)

        text = metrics.render()

        assert text.endswith("\n")
        names = re.findall(r"^# TYPE (\S+) (?:gauge|counter|histogram)$", text, re.MULTILINE)
        assert len(names) == len(set(names))
        assert names == re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE)
        series = r'^(kassa_[a-z_]+)(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? (\+Inf|[0-9.e+-]+)$'
        for line in text.splitlines():
            if not line.startswith("#"):
                assert re.match(series, line), line
                assert re.sub("_(bucket|sum|count)$", "", re.match(series, line)[1]) in names
        assert 'kassa_things_total{color="red"} 1' in text.splitlines()
        of_waits = [line for line in text.splitlines() if "kassa_waits" in line]
        assert of_waits == [
            "# HELP kassa_waits_seconds Waits.",
            "# TYPE kassa_waits_seconds histogram",
            'kassa_waits_seconds_bucket{le="0.5"} 1',
            'kassa_waits_seconds_bucket{le="30"} 1',
            'kassa_waits_seconds_bucket{le="+Inf"} 1',
            "kassa_waits_seconds_count 1",
            "kassa_waits_seconds_sum 0.25",
        ]

    def test_names_no_organization(self):
        assert "organi" not in metrics.render()
        assert all("organi" not in label for each in counters.declared() for label in each.labels)

    def test_without_postgres_says_so_and_tells_what_was_counted(self, metrics_folder, monkeypatch):
        Counter("kassa_things_total", "Things.", ("color",)).add(color="red")
        connection.close()
        monkeypatch.setitem(connection.settings_dict, "NAME", "no_such_database")

        found = samples()

        monkeypatch.undo()
        assert found["kassa_gauges_read"] == 0
        assert found['kassa_things_total{color="red"}'] == 1
        assert not any(series.startswith("kassa_work_due") for series in found)


class TestExporter:
    @pytest.fixture
    def url(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with running("manage.py", "exporter", "--bind", f"127.0.0.1:{port}", KASSA_ROLE="exporter"):
            wait_until(lambda: self.get(f"http://127.0.0.1:{port}/metrics") is not None)
            yield f"http://127.0.0.1:{port}"

    def get(self, url):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  (http, loopback)
                assert answer.headers["Content-Type"] == metrics.CONTENT_TYPE
                return answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code
        except OSError:
            return None

    def test_serves_what_is_so_at_the_moment(self, url):
        add(3)
        assert samples(self.get(f"{url}/metrics"))['kassa_work_due{kind="core.consume"}'] == 3

        work.claim_due(EventWork, limit=3, lease_seconds=60)
        assert samples(self.get(f"{url}/metrics"))['kassa_work_due{kind="core.consume"}'] == 0

        assert self.get(f"{url}/") == 404
