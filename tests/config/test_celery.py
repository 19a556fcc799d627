from types import SimpleNamespace

import pytest
from celery import current_app
from django.conf import settings

from config.settings._celery import QUEUES, VISIBILITY_TIMEOUT, MoneyLimits, make_celery
from tests.support import empty_broker, running_worker, wait_until

NAMES = ("payouts.send_batch", "webhooks.send")


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

    def test_end_tasks_that_move_money_sooner(self):
        limits = [MoneyLimits().annotate(SimpleNamespace(name=name)) for name in NAMES]

        assert limits == [{"soft_time_limit": 45, "time_limit": 60}, None]

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
