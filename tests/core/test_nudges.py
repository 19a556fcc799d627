"""Nudges are hints: few, quick, and nothing fails when the broker is away."""

import contextlib
import socket
import threading
import time

import pytest
from celery import Celery, current_app
from django.conf import settings

from apps.core import nudging, transactions, work
from apps.core.models import EventWork, OutboxBatch
from apps.core.work import Kind
from config.settings._celery import make_celery
from tests.core.events_of_tests import opened, publish, relay_and_consume, states
from tests.support import empty_broker

KIND = Kind("tests.kind", EventWork, "core.consume", "events")
# What a request may lose to a dead broker (operations.md has 0.7 s).
SECONDS_MAX = 0.7


@pytest.fixture(autouse=True)
def fresh_nudger(monkeypatch):
    nudger = nudging.Nudger()
    monkeypatch.setattr(nudging, "_nudger", nudger)
    return nudger


@contextlib.contextmanager
def broker(mode: str):
    """Open an address that behaves like a broker that is `refused`, `silent` or `full`."""
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
            threading.Thread(target=_take_and_say_nothing, args=(listener,), daemon=True).start()
        yield f"redis://127.0.0.1:{port}/0"


def _take_and_say_nothing(listener):
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(listener.accept()[0])
    for client in taken:
        client.close()


@pytest.fixture(params=["refused", "silent", "full"])
def dead_broker(request, monkeypatch):
    """Have this process publish, as a web process does, to a broker that is away."""
    with broker(request.param) as url:
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


class TestDeadBroker:
    def test_costs_a_request_less_than_the_limit(self, dead_broker, fresh_nudger):
        fresh_nudger._sent_at.clear()
        begun = time.monotonic()

        fresh_nudger.send(KIND)

        assert time.monotonic() - begun < SECONDS_MAX

    def test_is_left_alone_for_a_while(self, dead_broker, fresh_nudger):
        fresh_nudger.send(KIND)
        begun = time.monotonic()

        for number in range(20):
            fresh_nudger.send(Kind(f"tests.{number}", EventWork, "core.consume", "events"))

        assert time.monotonic() - begun < 0.1

    @pytest.mark.django_db(transaction=True)
    def test_fails_no_operation_and_loses_no_event(self, dead_broker):
        publish(opened())

        assert OutboxBatch.objects.get().state == "pending"
        assert [kind.name for kind in work.due_kinds()] == ["core.relay"]
        relay_and_consume()
        assert set(states()) == {"done"}

    def test_is_tried_again_when_the_while_is_over(self, dead_broker, fresh_nudger, monkeypatch):
        fresh_nudger.send(KIND)
        sent = []
        monkeypatch.setattr(nudging, "send_hint", sent.append)

        fresh_nudger.send(Kind("tests.other", EventWork, "core.consume", "events"))
        later = time.monotonic() + 5.1
        monkeypatch.setattr(nudging.time, "monotonic", lambda: later)
        fresh_nudger.send(KIND)

        assert sent == [KIND]


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
