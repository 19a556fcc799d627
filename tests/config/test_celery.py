import inspect
import time

import pytest
from celery import current_app
from celery.app.defaults import DEFAULTS
from django.conf import settings

from apps.core import work
from config.settings._celery import QUEUES, VISIBILITY_TIMEOUT, make_celery
from tests.support import empty_broker, running_worker, wait_until

ROLES = ("web", "command", "worker", "threads", "beat", "supervisor", "exporter")
WORKERS = ("worker", "threads", "beat")

# The table of events.md, section 2. What differs where a request waits is in TRANSPORT and below.
TABLE = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_acks_on_failure": True,
    "task_acks_on_timeout": True,
    "worker_prefetch_multiplier": 1,
    "task_soft_time_limit": 90,
    "task_time_limit": 120,
    "visibility_timeout": 300,
    "result_backend_transport_options": {"visibility_timeout": 300},
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_channel_error_retry": True,
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "worker_soft_shutdown_timeout": 30,
    "worker_enable_soft_shutdown_on_idle": True,
    "task_ignore_result": True,
    "task_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "task_create_missing_queues": False,
    "worker_max_tasks_per_child": 1000,
    "worker_max_memory_per_child": 400_000,
}
TRANSPORT = {
    "visibility_timeout": 300,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_keepalive": True,
    "health_check_interval": 10,
}


def make(role):
    """Return the settings of a process of this role, under Celery's own names."""
    made = make_celery(broker_url="redis://broker.invalid/0", role=role)
    return {name.removeprefix("CELERY_").lower(): value for name, value in made.items()}


class TestTable:
    @pytest.mark.parametrize("role", ROLES)
    def test_holds_for_every_process(self, role):
        made = make(role)

        assert {name: made[name] for name in TABLE} == TABLE

    @pytest.mark.parametrize("role", ROLES)
    def test_of_the_transport_holds_for_every_process(self, role):
        waits = (5, 30, True) if role in WORKERS else (0.3, 0.3, False)
        names = ("socket_connect_timeout", "socket_timeout", "retry_on_timeout")

        assert make(role)["broker_transport_options"] == TRANSPORT | dict(
            zip(names, waits, strict=True)
        )

    @pytest.mark.parametrize("role", ROLES)
    def test_bounds_what_a_publisher_waits_for(self, role):
        made = make(role)

        assert made["broker_transport"] == "config.broker:Transport"
        assert made["broker_pool_acquire_timeout"] == (None if role in WORKERS else 0.3)
        assert made["task_publish_retry_policy"] == {
            "max_retries": 2 if role in WORKERS else 0,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.3,
        }

    @pytest.mark.parametrize("role", ROLES)
    def test_has_names_that_celery_knows(self, role):
        # The shortest of these is looked for at the top as well, under no name of Celery's.
        assert set(make(role)) - set(DEFAULTS) == {"visibility_timeout"}

    def test_is_what_the_application_runs_with(self):
        # A test does not wait for workers to end.
        expected = TABLE | {"worker_soft_shutdown_timeout": 0}

        assert {name: current_app.conf[name] for name in TABLE} == expected
        assert not current_app.conf.task_always_eager


class TestTasks:
    @pytest.fixture
    def ours(self):
        current_app.loader.import_default_modules()
        return {
            name: task for name, task in current_app.tasks.items() if not name.startswith("celery.")
        }

    def test_are_there(self, ours):
        assert {"core.sweep", "payouts.work_batches", "webhooks.send_due"} <= set(ours)

    def test_end_within_their_limits(self, ours):
        limits = {name: (task.soft_time_limit, task.time_limit) for name, task in ours.items()}

        # Work of rows ends before its lease. In threads Celery ends nothing: work keeps to its own.
        rows = {kind.task: kind.hard_seconds for kind in work.kinds() if not kind.in_threads}
        assert {name: limits[name] for name in rows} == {
            name: (seconds - 5, seconds) for name, seconds in rows.items()
        }
        assert max(rows.values()) == 37
        others = {name for name in limits.keys() - rows.keys() if not name.startswith("tests.")}
        assert {limits[name] for name in others} == {(90, 120)}

    def test_are_given_back_when_their_worker_is_lost(self, ours):
        names = ("acks_late", "reject_on_worker_lost", "acks_on_failure", "acks_on_timeout")

        kept = {tuple(getattr(task, name) for name in names) for task in ours.values()}

        assert kept == {(True,) * 4}

    def test_accept_what_a_newer_release_tells_them(self, ours):
        kinds = {
            name: {each.kind for each in inspect.signature(task.run).parameters.values()}
            for name, task in ours.items()
        }

        deaf = [name for name, found in kinds.items() if inspect.Parameter.VAR_KEYWORD not in found]
        assert deaf == []


class TestSettings:
    def test_give_each_queue_an_exchange_and_a_key_of_its_own(self):
        queues = settings.CELERY_TASK_QUEUES

        assert [queue.name for queue in queues] == list(QUEUES)
        assert len({(queue.exchange.name, queue.routing_key) for queue in queues}) == len(QUEUES)

    @pytest.mark.parametrize("role", ["web", "worker", "threads", "beat", "command"])
    def test_agree_on_one_visibility_timeout(self, role):
        made = make_celery(broker_url="redis://broker.invalid/0", role=role)

        assert made["CELERY_BROKER_TRANSPORT_OPTIONS"]["visibility_timeout"] == VISIBILITY_TIMEOUT
        assert made["CELERY_VISIBILITY_TIMEOUT"] == VISIBILITY_TIMEOUT
        assert made["CELERY_TASK_TIME_LIMIT"] * 2 < VISIBILITY_TIMEOUT

    def test_wait_for_redis_less_long_in_a_request(self):
        made = make_celery(broker_url="redis://broker.invalid/0", role="web")

        assert made["CELERY_BROKER_TRANSPORT_OPTIONS"]["socket_timeout"] < 1

    @pytest.mark.parametrize("role", ROLES)
    def test_have_beat_say_two_things_and_no_more(self, role):
        current_app.loader.import_default_modules()
        schedule = make(role)["beat_schedule"].values()

        assert {entry["task"]: entry["schedule"].seconds for entry in schedule} == {
            "core.sweep": 1.0,
            "core.plan_jobs": 15.0,
        }
        assert {entry["task"] for entry in schedule} <= set(current_app.tasks)
        # Beat looks as often as its shortest entry asks for.
        assert make(role)["beat_max_loop_interval"] == 1

    def test_have_beat_go_by_a_clock_that_nobody_sets(self):
        # A beat that remembers goes by when it was last there, on a clock that was started since.
        assert make("beat")["beat_scheduler"] == "celery.beat:Scheduler"
        for entry in make("beat")["beat_schedule"].values():
            before = time.monotonic()
            assert before - 1 < entry["schedule"].now().timestamp() < time.monotonic() + 1

    def test_lead_work_that_keeps_to_its_limit_itself_to_threads_and_no_other(self):
        in_threads = {kind.queue for kind in work.kinds() if kind.in_threads}

        # Of prefork workers alone Celery ends tasks, and whoever takes a row over counts on an end.
        assert in_threads == {"webhooks", "webhooks_slow"}
        assert not in_threads & {kind.queue for kind in work.kinds() if not kind.in_threads}

    def test_lead_every_task_to_a_queue_that_exists(self):
        current_app.loader.import_default_modules()
        router = current_app.amqp.router

        routed = {name: router.route({}, name)["queue"].name for name in current_app.tasks}

        assert set(routed.values()) <= set(QUEUES)
        assert all("always_eager" not in name for name in routed)


@pytest.mark.django_db(transaction=True)
def test_a_worker_takes_from_its_own_queue_alone():
    empty_broker()
    current_app.send_task("core.sweep", queue="default")
    current_app.send_task("core.sweep", queue="risk")

    with running_worker("risk", concurrency=1):
        wait_until(lambda: _count("risk") == 0)

    assert _count("default") == 1


def _count(queue: str) -> int:
    with current_app.connection_for_read() as connection:
        return connection.default_channel._size(queue)
