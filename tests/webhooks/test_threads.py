"""Some threads of a worker are kept for organizations that have none of them (ADR 0146)."""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import Mock
from uuid import uuid4

import pytest
from django.db import OperationalError

from apps.core import work
from apps.webhooks import tasks
from apps.webhooks.rules.threads import Threads
from tests.accounts.factories import create_organization
from tests.support import empty_broker, running_worker, wait_until
from tests.webhooks import receiver
from tests.webhooks.factories import create_endpoint, deliveries, owe
from tests.webhooks.receiver import Receiver

ONE, OTHER, THIRD = (uuid4() for _ in range(3))


@contextmanager
def at_work(threads, *organization_ids):
    """Have a thread each ask to be at work for these, in turn; yield what they were told."""
    told, over, started = [], threading.Event(), []

    def ask(organization_id, has_asked):
        told.append(threads.take(organization_id))
        has_asked.set()
        over.wait(60)
        threads.leave()

    try:
        for organization_id in organization_ids:
            has_asked = threading.Event()
            started.append(threading.Thread(target=ask, args=(organization_id, has_asked)))
            started[-1].start()
            assert has_asked.wait(30)
        yield told
    finally:
        over.set()
        for each in started:
            each.join(30)


class TestThreads:
    def test_keep_the_last_quarter_for_who_has_none(self):
        threads = Threads(8)

        with at_work(threads, *[ONE] * 7, OTHER, OTHER, THIRD) as told:
            assert told == [*[True] * 6, False, True, False, True]

    def test_say_who_may_have_no_more_of_them(self):
        threads = Threads(4)

        with at_work(threads, ONE, ONE):
            assert threads.list_full() == []
            with at_work(threads, OTHER):
                assert set(threads.list_full()) == {ONE, OTHER}
                assert threads.take(THIRD)

    def test_are_free_again_when_left_and_when_they_ask_for_more(self):
        threads = Threads(4)

        with at_work(threads, OTHER, THIRD):
            assert threads.take(ONE)
            # A thread that asks has ended what it was at.
            assert threads.take(ONE)
            assert set(threads.list_full()) == {ONE, OTHER, THIRD}
            threads.leave()
            assert threads.list_full() == []

    @pytest.mark.parametrize("number", [0, 1, 3])
    def test_keep_none_where_they_are_few_or_nobody_knows_how_many(self, number):
        threads = Threads(number)

        with at_work(threads, *[ONE] * number, *[ONE] * (not number)) as told:
            assert all(told)
            assert threads.list_full() == []


class TestClaimLane:
    def test_passes_over_who_has_as_many_as_it_may(self, organization, far, monkeypatch):
        other = create_organization()
        for each in (organization, other):
            create_endpoint(each, far.url, max_in_flight=8)
            owe(each, *(f"thing_{number}" for number in range(16)))
        threads = Threads(4)
        monkeypatch.setattr(tasks, "_threads", threads)

        with at_work(threads, *[organization.id] * 3):
            assert tasks.claim_lane(is_slow=False).organization_id == other.id
            # As whoever asks has ended its turn: the other has no thread then, and the one three.
            assert tasks.claim_lane(is_slow=False).organization_id == other.id
        threads.leave()
        with at_work(threads, organization.id, organization.id, other.id):
            assert tasks.claim_lane(is_slow=False) is None
        assert tasks.claim_lane(is_slow=False) is not None

    def test_is_at_work_for_nobody_where_lanes_cannot_be_asked_for(
        self, organization, far, monkeypatch
    ):
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        threads = Threads(1)
        monkeypatch.setattr(tasks, "_threads", threads)
        lost = OperationalError("the connection is lost")
        monkeypatch.setattr(tasks.work, "claim_due", Mock(side_effect=lost))

        with pytest.raises(OperationalError):
            tasks.claim_lane(is_slow=False)

        assert threads._at_work == {}


class TestNumber:
    @pytest.mark.parametrize(("said", "number"), [(16, 16), ("auto", 0)])
    def test_is_what_celery_says_unless_that_is_a_word(self, monkeypatch, said, number):
        threads = Threads()
        monkeypatch.setattr(tasks, "_threads", threads)

        tasks._count_threads(sender=SimpleNamespace(concurrency=said))

        assert threads.number == number


@pytest.fixture
def _own_broker():
    empty_broker()
    yield
    empty_broker()


@pytest.mark.usefixtures("_own_broker")
class TestWorker:
    def test_sends_to_another_beside_one_all_of_whose_receivers_hang(self, organization, far):
        far.answers = [receiver.hang]
        create_endpoint(organization, far.url, max_in_flight=8)
        owe(organization, *(f"thing_{number}" for number in range(32)))

        def at_work_on(count):
            # A hint more each time, as the sweeper's.
            work.sweep()
            return len(far.requests) == count

        with Receiver() as near, running_worker("webhooks", pool="threads", concurrency=4):
            wait_until(lambda: at_work_on(3))
            other = create_organization()
            create_endpoint(other, near.url)
            owe(other, "thing_1")

            near.wait_for(1)

            # The first three ended meanwhile, or none did: no fourth came before it.
            assert near.requests[0].at < min(
                [each.at for each in far.requests[3:]], default=math.inf
            )
            wait_until(lambda: [each.status for each in deliveries(other)] == ["succeeded"])
