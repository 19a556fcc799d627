"""What takes too long for its consumer, together or in a portion, is tried in smaller parts."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from uuid import UUID

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from apps.core import outbox, work, working
from apps.core.models import EventWork
from tests.core.events_of_tests import ORGANIZATION, OTHER, make_due, opened, relayed, states
from tests.core.test_outbox import Recorder

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class SlowRecorder:
    """
    A consumer that reaches the soft limit where it is given too many events, or a slow one.

    What it was given is in `given`: how many events, and the organization.
    """

    now: float = 1000.0
    at_once_max: int = 10
    slow: set[str] = field(default_factory=set)
    given: list[tuple[int, UUID]] = field(default_factory=list)

    def __call__(self, organization_id, events):
        self.given.append((len(events), organization_id))
        if len(events) > self.at_once_max or self.slow & {event.data["code"] for event in events}:
            self.now += outbox.HARD_SECONDS - 5
            raise SoftTimeLimitExceeded
        self.now += 0.3

    def monotonic(self):
        return self.now


def run_often():
    """Run the task more often than the work of these tests needs."""
    for _ in range(9):
        working.run(outbox.CONSUMING)


class TestTooSlow:
    @pytest.fixture
    def slow(self, monkeypatch):
        slow = SlowRecorder()
        monkeypatch.setattr(outbox._consuming, "_consumers", {"slow": outbox.Consumer(slow)})
        monkeypatch.setattr(working, "time", SimpleNamespace(monotonic=slow.monotonic))
        return slow

    def test_together_are_worked_one_by_one_and_others_have_their_turn(self, slow):
        relayed(*([opened(str(n))] for n in range(60)))
        relayed([opened("theirs", organization_id=OTHER)])

        working.run(outbox.CONSUMING)

        assert slow.given == [(60, ORGANIZATION)]
        columns = ("organization_id", "state", "attempts", "last_error_code")
        assert set(EventWork.objects.values_list(*columns)) == {
            (ORGANIZATION, "pending", 1, work.FAILED_TOGETHER),
            (OTHER, "pending", 0, ""),
        }
        working.run(outbox.CONSUMING)
        assert slow.given[1:3] == [(1, OTHER), (1, ORGANIZATION)]
        run_often()
        assert set(EventWork.objects.values_list("state", "last_error_code")) == {("done", "")}
        assert slow.given[1:] == [(1, OTHER)] + [(1, ORGANIZATION)] * 60

    def test_alone_is_the_only_one_that_is_set_aside(self, slow):
        slow.slow = {"13"}
        relayed(*([opened(str(n))] for n in range(30)))
        relayed([opened("theirs", organization_id=OTHER)])

        for _ in range(work.ATTEMPTS_MAX + 1):
            make_due(EventWork)
            working.run(outbox.CONSUMING)

        left = EventWork.objects.exclude(state="done").get()
        assert (left.state, left.attempts, left.last_error_code) == (
            "quarantined",
            work.ATTEMPTS_MAX,
            "consumer_failed",
        )
        assert EventWork.objects.filter(state="done").count() == 30

    def test_in_a_large_batch_are_given_in_smaller_portions(self, slow):
        relayed([opened(f"a{n}") for n in range(12)], [opened(f"b{n}") for n in range(12)])

        for _ in range(20):
            make_due(EventWork)
            working.run(outbox.CONSUMING)

        assert set(states()) == {"done"}
        assert slow.given[0] == (24, ORGANIZATION)

    def test_with_a_backlog_hide_nobody(self, slow):
        slow.at_once_max = 1
        relayed(*([opened(str(n))] for n in range(40)))
        relayed([opened("theirs", organization_id=OTHER)])
        consuming = replace(outbox.CONSUMING, batch=8)

        # The backlog's next ones are untried and older, and too slow again.
        working.run(consuming)
        working.run(consuming)

        assert [each for each in slow.given if each[1] == OTHER] == [(1, OTHER)]
        assert EventWork.objects.filter(organization_id=OTHER).get().state == "done"

    def test_hide_no_other_consumer_of_the_organization(self, slow):
        slow.at_once_max = 1
        quick = Recorder()
        outbox.register_consumer(name="quick", handler=quick)
        for n in range(12):
            relayed([opened(str(n))])
        consuming = replace(outbox.CONSUMING, batch=8)

        working.run(consuming)
        assert quick.codes == []
        working.run(consuming)

        assert quick.batches == [["4", "5", "6", "7"]]
        assert not EventWork.objects.filter(consumer="slow", state="done").exists()

    def test_one_by_one_after_a_fault_are_not_tried_together_again(self, slow):
        slow.at_once_max = 100
        relayed(*([opened(str(n))] for n in range(60)))

        def conflict(organization_id, events):
            slow(organization_id, events)
            if len(events) > 1:
                raise ZeroDivisionError

        outbox.register_consumer(name="slow", handler=conflict)

        # There is time for some of them, one by one, and not for all.
        working.run(outbox.CONSUMING)
        assert set(states()) == {"done", "pending"}
        run_often()

        assert slow.given == [(60, ORGANIZATION)] + [(1, ORGANIZATION)] * 60
