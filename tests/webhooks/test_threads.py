"""Who may have the threads of a worker: all, who was prompt, who has none (ADR 0146, 0150)."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock
from uuid import uuid4

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock, work, working
from apps.webhooks import queries, tasks
from apps.webhooks.adapters import sender
from apps.webhooks.models import WebhookAttempt, WebhookLane
from apps.webhooks.rules.threads import Pace, Threads
from tests.accounts.factories import create_organization
from tests.support import empty_broker, running_worker, wait_until
from tests.webhooks import receiver
from tests.webhooks.factories import create_endpoint, deliver, deliveries, owe
from tests.webhooks.receiver import Receiver

ONE, OTHER, THIRD, ENDPOINT = (uuid4() for _ in range(4))


@contextmanager
def at_work(threads, *organization_ids, pace=Pace.PROMPT):
    """Have a thread each ask to be at work for these, in turn; yield what they were told."""
    told, over, started = [], threading.Event(), []

    def ask(organization_id, has_asked):
        told.append(threads.take(organization_id, pace=pace))
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
    def test_of_those_at_a_fair_pace_are_not_for_who_may_hang(self):
        threads = Threads(8)

        # Six of eight are all that those may have together, of organizations that have none.
        with at_work(threads, *(uuid4() for _ in range(6)), pace=Pace.FAIR) as told:
            assert told == [True] * 6
            assert not threads.take(OTHER, pace=Pace.DOUBTFUL)
            assert not threads.take(OTHER, pace=Pace.FAIR)
            assert threads.take(OTHER, pace=Pace.PROMPT)

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
                assert threads.take(THIRD, pace=Pace.PROMPT)

    def test_are_free_again_when_left_and_when_they_ask_for_more(self):
        threads = Threads(4)

        with at_work(threads, OTHER, THIRD):
            assert threads.take(ONE, pace=Pace.PROMPT)
            # A thread that asks has ended what it was at.
            assert threads.take(ONE, pace=Pace.PROMPT)
            assert set(threads.list_full()) == {ONE, OTHER, THIRD}
            threads.leave()
            assert threads.list_full() == []

    @pytest.mark.parametrize("pace", Pace)
    @pytest.mark.parametrize("number", [0, 1, 3])
    def test_keep_none_where_they_are_few_or_nobody_knows_how_many(self, number, pace):
        threads = Threads(number)
        asking = [ONE] * max(number, 1)

        with at_work(threads, *asking, pace=pace) as told:
            assert all(told)
            assert threads.list_full() == []
            assert threads.list_faster(at=0) is None

    def test_are_half_of_them_for_who_is_known_to_be_prompt(self):
        threads = Threads(8)
        threads.saw(ENDPOINT, seconds=0.1, is_slow=False, at=0)

        with at_work(threads, *[uuid4() for _ in range(5)], pace=Pace.DOUBTFUL) as told:
            assert told == [True] * 4 + [False]
            assert threads.list_faster(at=0) == [ENDPOINT]
            with at_work(threads, *[uuid4() for _ in range(4)]) as prompt_told:
                assert prompt_told == [True] * 4
        assert threads.list_faster(at=0) is None

    def test_are_a_quarter_for_who_is_prompt_beside_those_at_a_fair_pace(self):
        threads = Threads(8)
        threads.saw(ENDPOINT, seconds=1, is_slow=False, at=0)
        threads.saw(ONE, seconds=1.1, is_slow=False, at=0)

        with at_work(threads, *[uuid4() for _ in range(4)], pace=Pace.DOUBTFUL):
            # Whoever takes longer than a second has threads that no hanging one can have.
            assert set(threads.list_faster(at=0)) == {ENDPOINT, ONE}
            with at_work(threads, *[uuid4() for _ in range(3)], pace=Pace.FAIR) as told:
                assert told == [True, True, False]
                assert threads.list_faster(at=0) == [ENDPOINT]
                with at_work(threads, uuid4(), uuid4()) as prompt_told:
                    assert prompt_told == [True, True]


class TestPromptness:
    def test_is_of_who_was_sent_to(self):
        threads = Threads(8)

        assert threads.pace(ENDPOINT, at=0) is Pace.DOUBTFUL
        threads.saw(ENDPOINT, seconds=1, is_slow=False, at=0)
        assert threads.pace(ENDPOINT, at=0) is Pace.PROMPT

    def test_is_lost_for_a_minute_by_one_attempt_that_took_long(self):
        threads = Threads(8)
        threads.saw(ENDPOINT, seconds=0.1, is_slow=False, at=0)

        threads.saw(ENDPOINT, seconds=2.1, is_slow=False, at=10)
        # Whoever hangs every other time is not prompt in between.
        threads.saw(ENDPOINT, seconds=0.1, is_slow=False, at=11)

        assert threads.pace(ENDPOINT, at=69) is Pace.DOUBTFUL
        assert threads.pace(ENDPOINT, at=70) is Pace.PROMPT

    def test_is_a_fair_pace_where_it_takes_no_longer_than_two_seconds(self):
        threads = Threads(8)
        threads.saw(ENDPOINT, seconds=1.1, is_slow=False, at=0)
        threads.saw(ENDPOINT, seconds=0.1, is_slow=False, at=10)
        threads.saw(OTHER, seconds=2.1, is_slow=False, at=0)
        threads.saw(OTHER, seconds=1.1, is_slow=False, at=10)

        for at, paces in {
            59: [Pace.FAIR, Pace.DOUBTFUL],
            60: [Pace.PROMPT, Pace.FAIR],
        }.items():
            assert [threads.pace(each, at=at) for each in (ENDPOINT, OTHER)] == paces

    def test_comes_back_with_an_answer_and_not_with_time(self):
        threads = Threads(8)
        threads.saw(ENDPOINT, seconds=15, is_slow=False, at=0)

        assert threads.pace(ENDPOINT, at=3600) is Pace.DOUBTFUL
        threads.saw(ENDPOINT, seconds=0.1, is_slow=False, at=3600)
        assert threads.pace(ENDPOINT, at=3600) is Pace.PROMPT

    def test_is_another_thing_among_those_that_are_slow(self):
        threads = Threads(8)

        threads.saw(ONE, seconds=10, is_slow=True, at=0)
        threads.saw(OTHER, seconds=10.1, is_slow=True, at=0)

        assert threads.pace(ONE, at=0) is Pace.PROMPT
        assert threads.pace(OTHER, at=0) is Pace.DOUBTFUL

    def test_is_remembered_of_those_that_were_sent_to_last(self, monkeypatch):
        monkeypatch.setattr("apps.webhooks.rules.threads._REMEMBERED_MAX", 2)
        threads = Threads(8)
        first, second, third = (uuid4() for _ in range(3))

        for endpoint_id in (first, second, first, third):
            threads.saw(endpoint_id, seconds=0.1, is_slow=False, at=0)

        known = [threads.pace(each, at=0) for each in (first, second, third)]
        assert known == [Pace.PROMPT, Pace.DOUBTFUL, Pace.PROMPT]


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

    def test_finds_who_is_prompt_behind_any_number_of_others(self, organization, far, monkeypatch):
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
        others = [create_organization() for _ in range(3)]
        for each in others:
            for _ in range(16):
                create_endpoint(each, far.url, max_in_flight=8)
        lanes = WebhookLane.objects.filter(organization_id__in=[each.id for each in others])
        assert lanes.update(state="pending", next_attempt_at=clock.now() - timedelta(1)) == 384
        owe(organization, "thing_1")
        threads = Threads(8)
        threads.saw(endpoint.id, seconds=0.1, is_slow=False, at=0)
        monkeypatch.setattr(tasks, "_threads", threads)

        with at_work(threads, *[uuid4() for _ in range(4)], pace=Pace.DOUBTFUL):
            assert tasks.claim_lane(is_slow=False).endpoint_id == endpoint.id
            threads.leave()
            assert tasks.claim_lane(is_slow=False) is None
        # No longer, once others have left what they may have.
        assert tasks.claim_lane(is_slow=False).organization_id in {each.id for each in others}

    def test_looks_at_no_lane_where_none_may_be_taken(self, organization, far, monkeypatch):
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        threads = Threads(8)
        monkeypatch.setattr(tasks, "_threads", threads)

        # Nobody is known to be prompt, and the others have their half.
        with at_work(threads, *[uuid4() for _ in range(4)], pace=Pace.DOUBTFUL):
            with CaptureQueriesContext(connection) as asked:
                assert tasks.claim_lane(is_slow=False) is None
            assert len(asked) == 0
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


class TestTurn:
    @pytest.mark.parametrize(
        ("others", "pace", "made"),
        # The last one has the second of the two that are not for who was prompt.
        [(2, Pace.PROMPT, 1), (1, Pace.PROMPT, 3), (1, Pace.DOUBTFUL, 1)],
    )
    def test_is_short_while_others_wait_for_a_thread(
        self, organization, far, monkeypatch, others, pace, made
    ):
        monkeypatch.setattr(tasks, "LANE_SECONDS_AWAITED", 0)
        threads = Threads(4)
        monkeypatch.setattr(tasks, "_threads", threads)
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1", "thing_2", "thing_3")

        with at_work(threads, *[uuid4() for _ in range(others)], pace=pace):
            lane = tasks.claim_lane(is_slow=False)
            assert tasks.work_lane(lane, policy=queries.get_policy()) == made

        # What is left has another turn.
        assert deliver() == 3 - made

    @pytest.mark.parametrize(("others", "seconds"), [(2, 1), (1, 10)])
    def test_ends_after_a_second_while_others_wait_and_after_ten_else(
        self, organization, far, monkeypatch, others, seconds
    ):
        threads = Threads(4)
        monkeypatch.setattr(tasks, "_threads", threads)
        # By this worker's clock each request takes half a second.
        monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=lambda: len(far.requests) / 2))
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{number}" for number in range(24)))

        with at_work(threads, *[uuid4() for _ in range(others)]):
            lane = tasks.claim_lane(is_slow=False)
            assert tasks.work_lane(lane, policy=queries.get_policy()) == 2 * seconds

        assert WebhookLane.objects.get(id=lane.id).state == "pending"

    @pytest.mark.parametrize(("is_slow", "pace"), [(False, Pace.DOUBTFUL), (True, Pace.PROMPT)])
    def test_shows_the_endpoints_pace_among_its_like(
        self, organization, far, monkeypatch, is_slow, pace
    ):
        threads = Threads(4)
        monkeypatch.setattr(tasks, "_threads", threads)
        # By the sender's clock each answer takes three seconds more.
        late = SimpleNamespace(monotonic=lambda: time.monotonic() + 3 * len(far.requests))
        monkeypatch.setattr(sender, "time", late)
        endpoint, _ = create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        WebhookLane.objects.update(is_slow=is_slow)

        lane = tasks.claim_lane(is_slow=is_slow)
        assert tasks.work_lane(lane, policy=queries.get_policy()) == 1

        assert WebhookAttempt.objects.get().outcome == "succeeded"
        assert threads.pace(endpoint.id, at=0) is pace

    def test_that_ends_with_its_task_leaves_its_thread(self, organization, far, monkeypatch):
        threads = Threads(4)
        monkeypatch.setattr(tasks, "_threads", threads)
        # The task's time is over with the first request: it looks for no other lane.
        over = SimpleNamespace(monotonic=lambda: tasks.TASK_SECONDS_MAX * 2 * len(far.requests))
        monkeypatch.setattr(working, "time", over)
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")

        assert tasks.send_due() == 1

        assert threads._at_work == {}


class TestNumber:
    @pytest.mark.parametrize(("said", "number"), [(16, 16), ("auto", 0)])
    def test_is_what_celery_says_unless_that_is_a_word(self, monkeypatch, said, number):
        threads = Threads()
        monkeypatch.setattr(tasks, "_threads", threads)

        tasks._count_threads(sender=SimpleNamespace(concurrency=said))

        assert threads.number == number


def swept():
    """Hint at what is due once more, as the sweeper does."""
    work.sweep()
    return True


def is_sent(organization):
    work.sweep()
    return [each.status for each in deliveries(organization)] == ["succeeded"]


def create_prompt(near, **terms):
    """
    Return an organization whose endpoint there was prompt, as the worker that runs has seen.

    On a busy machine an attempt may take longer than that; then another endpoint is tried.
    """
    while True:
        organization = create_organization()
        create_endpoint(organization, near.url, **terms)
        owe(organization, "thing_0")
        wait_until(partial(is_sent, organization))
        attempt = WebhookAttempt.objects.get(organization=organization)
        if attempt.duration_ms <= 1000:
            return organization


@pytest.fixture
def _own_broker():
    empty_broker()
    yield
    empty_broker()


@pytest.mark.usefixtures("_own_broker", "transactional_db")
class TestWorker:
    def test_sends_to_another_beside_one_all_of_whose_receivers_hang(self, far):
        with Receiver() as near, running_worker("webhooks", pool="threads", concurrency=4):
            organization = create_prompt(far, max_in_flight=8)
            seen = len(far.requests)
            far.answers = [receiver.hang]
            owe(organization, *(f"thing_{number}" for number in range(1, 32)))
            wait_until(lambda: swept() and len(far.requests) == seen + 3)
            other = create_organization()
            create_endpoint(other, near.url)
            owe(other, "thing_1")

            near.wait_for(1)

            # The first three ended meanwhile, or none did: no fourth came before it.
            assert near.requests[0].at < min(
                [each.at for each in far.requests[seen + 3 :]], default=math.inf
            )
            wait_until(lambda: [each.status for each in deliveries(other)] == ["succeeded"])

    def test_sends_to_who_is_prompt_beside_any_number_whose_receivers_hang(self, far):
        far.answers = [receiver.hang]
        with Receiver() as near, running_worker("webhooks", pool="threads", concurrency=4):
            organization = create_prompt(near)
            seen = len(near.requests)
            for _ in range(6):
                other = create_organization()
                create_endpoint(other, far.url)
                owe(other, "thing_1")
            wait_until(lambda: swept() and len(far.requests) >= 2)
            owe(organization, "thing_2")

            wait_until(lambda: swept() and len(near.requests) == seen + 1)

            # The two that hang ended meanwhile, or none did: no third came before it.
            assert near.requests[seen].at < min(
                [each.at for each in far.requests[2:]], default=math.inf
            )
