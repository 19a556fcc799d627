"""Nudges are hints: few, quick, and nothing fails when the broker is away."""

import contextlib
import socket
import threading
import time
from datetime import datetime, timedelta

import pytest
from celery import Celery, current_app
from django.conf import settings
from django.utils import timezone

from apps.core import nudging, outbox, transactions, work
from apps.core.models import EventWork, OutboxBatch
from apps.core.work import Kind
from config.settings._celery import make_celery
from tests.core.events_of_tests import opened, publish, relay_and_consume, states
from tests.support import empty_broker, wait_until

KIND = Kind("tests.kind", EventWork, "core.consume", "events")
# What a request may lose to a dead broker; `make bench ONLY=dead_broker` says what it does.
SECONDS_MAX = 0.7


@pytest.fixture(autouse=True)
def fresh_nudger(monkeypatch):
    nudger = nudging.Nudger()
    monkeypatch.setattr(nudging, "_nudger", nudger)
    return nudger


@contextlib.contextmanager
def broker(mode: str, taken: list[socket.socket]):
    """
    Open an address that behaves like a broker that is `refused`, `silent` or `full`.

    The connections that a silent one took are added to `taken`.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        if mode == "refused":
            listener.close()
        if mode == "full":
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.settimeout(0)
                with contextlib.suppress(BlockingIOError):
                    waiting.connect(("127.0.0.1", port))
        if mode == "silent":
            threading.Thread(
                target=_take_and_say_nothing, args=(listener, taken), daemon=True
            ).start()
        yield f"redis://127.0.0.1:{port}/0"


def _take_and_say_nothing(listener, taken):
    with contextlib.suppress(OSError):
        while True:
            taken.append(listener.accept()[0])
    for client in taken:
        client.close()


@pytest.fixture
def taken():
    """The connections that a silent broker took."""
    return []


@pytest.fixture(params=["refused", "silent", "full"])
def dead_broker(request, monkeypatch, taken):
    """Have this process publish, as a web process does, to a broker that is away."""
    with broker(request.param, taken) as url:
        app = Celery("tests", set_as_current=False)
        made = make_celery(broker_url=url, role="web")
        app.config_from_object(
            {name.removeprefix("CELERY_").lower(): v for name, v in made.items()}
        )
        monkeypatch.setattr(nudging, "current_app", app)
        # Importing and connecting for the first time is no part of what a request waits for.
        app.amqp.producer_pool  # noqa: B018
        yield request.param
        app.pool.force_close_all()
        app.close()


@pytest.fixture
def tries(monkeypatch):
    """Count how often the broker was really told something, or would have been."""
    made = []
    send = nudging.send_hint

    def count(kind):
        made.append(kind.name)
        send(kind)

    monkeypatch.setattr(nudging, "send_hint", count)
    return made


def other_kinds(count):
    return [Kind(f"tests.{n}", EventWork, "core.consume", "events") for n in range(count)]


class TestDeadBroker:
    def test_may_cost_a_request_what_its_waits_add_up_to(self):
        made = make_celery(broker_url="redis://", role="web")
        transport = made["CELERY_BROKER_TRANSPORT_OPTIONS"]

        # A connection of the pool, and then one that is either made in vain or not answered.
        one_try = max(transport["socket_connect_timeout"], transport["socket_timeout"])
        assert made["CELERY_BROKER_POOL_ACQUIRE_TIMEOUT"] + one_try < SECONDS_MAX
        # With one more try it would be longer.
        assert made["CELERY_BROKER_POOL_ACQUIRE_TIMEOUT"] + 2 * one_try > SECONDS_MAX
        assert made["CELERY_TASK_PUBLISH_RETRY_POLICY"]["max_retries"] == 0
        assert transport["retry_on_timeout"] is False

    @pytest.mark.parametrize("dead_broker", ["silent"], indirect=True)
    def test_is_connected_to_once(self, dead_broker, fresh_nudger, taken):
        fresh_nudger.send(KIND)

        wait_until(lambda: bool(taken))
        assert len(taken) == 1

    def test_is_left_alone_for_a_while(self, dead_broker, fresh_nudger, tries):
        fresh_nudger.send(KIND)

        for kind in other_kinds(20):
            fresh_nudger.send(kind)

        assert tries == [KIND.name]

    @pytest.mark.django_db(transaction=True)
    def test_fails_no_operation_and_loses_no_event(self, dead_broker):
        publish(opened())

        assert OutboxBatch.objects.get().state == "pending"
        assert [kind.name for kind in work.due_kinds()] == ["core.relay"]
        relay_and_consume()
        assert set(states()) == {"done"}

    def test_is_tried_again_when_five_seconds_are_over(
        self, dead_broker, fresh_nudger, tries, monkeypatch
    ):
        at = time.monotonic()
        monkeypatch.setattr(nudging.time, "monotonic", lambda: at)
        first, second, third = other_kinds(3)
        fresh_nudger.send(first)

        at += 4.9
        fresh_nudger.send(second)
        at += 0.2
        fresh_nudger.send(third)

        assert tries == [first.name, third.name]


@pytest.fixture
def sent():
    """Count what really reached the broker."""
    empty_broker()

    def count(queue="events"):
        with current_app.connection_for_read() as connection:
            return connection.default_channel._size(queue)

    yield count
    empty_broker()


@pytest.mark.django_db(transaction=True)
class TestNudge:
    def test_is_sent_after_the_commit(self, sent):
        seen = []

        publish(opened(), then=lambda: seen.append(sent()))

        assert (seen, sent()) == ([0], 1)

    def test_is_sent_to_consumers_once_a_batch_has_its_position(self, sent):
        publish(opened())
        empty_broker()

        outbox.relay()

        assert sent() == 1

    def test_is_not_sent_for_what_was_rolled_back(self, sent):
        with pytest.raises(ZeroDivisionError):
            publish(opened(), then=lambda: 1 / 0)

        assert sent() == 0

    def test_is_sent_once_in_fifty_milliseconds(self, sent, monkeypatch):
        at = [1000.0]
        monkeypatch.setattr(nudging.time, "monotonic", lambda: at[0])
        for _ in range(10):
            publish(opened())
            at[0] += 0.01

        assert sent() == 2

    def test_of_one_kind_does_not_hold_up_another(self, sent):
        @transactions.outermost
        def nudge_both():
            work.nudge("core.relay")
            work.nudge("core.jobs")

        nudge_both()

        assert (sent("events"), sent("default")) == (1, 1)

    def test_goes_to_the_queue_of_its_kind(self):
        assert {kind.queue for kind in work.kinds()} <= {
            queue.name for queue in settings.CELERY_TASK_QUEUES
        }


class TestHint:
    """Hints are prepared once; what goes out is what Celery itself would send."""

    @pytest.fixture
    def messages(self, sent):
        """Take what is in a queue, oldest first."""

        def take(queue="events"):
            with current_app.connection_for_read() as connection:
                return [
                    connection.default_channel.basic_get(queue, no_ack=True)
                    for _ in range(sent(queue))
                ]

        return take

    def test_is_the_message_that_celery_sends(self, messages):
        nudging.send_hint(KIND)
        current_app.send_task(KIND.task, queue=KIND.queue, ignore_result=True, expires=86_400)

        ours, theirs = messages()

        # How long it may take is left to the worker's own task, and an answer is nobody's.
        apart = {
            "id", "root_id", "correlation_id", "delivery_tag", "expires", "timelimit", "reply_to",
        }  # fmt: skip
        assert ours.headers.keys() == theirs.headers.keys()
        for one, other in (ours.headers, theirs.headers), (ours.properties, theirs.properties):
            assert {key: value for key, value in one.items() if key not in apart} == {
                key: value for key, value in other.items() if key not in apart
            }
        assert ours.headers["timelimit"] == [None, None]
        assert ours.decode() == theirs.decode()

    def test_has_an_id_of_its_own_and_ends_after_a_day(self, messages):
        begins_at = timezone.now()
        nudging.send_hint(KIND)
        nudging.send_hint(KIND)
        ends_at = timezone.now()

        first, second = messages()

        assert first.headers["id"] == first.headers["root_id"] == first.properties["correlation_id"]
        assert first.headers["id"] != second.headers["id"]
        for message in first, second:
            expires_at = datetime.fromisoformat(message.headers["expires"])
            assert begins_at <= expires_at - timedelta(days=1) <= ends_at
            assert message.properties["expiration"] == "86400000"


class TestChannel:
    def test_keeps_its_client_until_its_connections_are_lost(self):
        with current_app.connection_for_write() as connection:
            channel = connection.default_channel

            def client():
                with channel.conn_or_acquire() as found:
                    return found

            first, again = client(), client()
            channel._disconnect_pools()
            other = client()

            assert first is again is not other
            assert other.ping()
