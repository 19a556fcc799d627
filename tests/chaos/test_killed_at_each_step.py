"""SIGKILL between any two steps from a commit to its receiver: another goes on from there."""

from __future__ import annotations

import signal

import pytest

from apps.core.models import JobRun, OutboxBatch
from apps.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookLane
from tests.chaos.house import PATIENCE_SECONDS, wait_sweeping
from tests.chaos.oracles import assert_delivered, assert_sound, end_leases, is_settled
from tests.support import wait_until
from tests.webhooks.factories import create_endpoint, owe, publish

EVENTS = 25
THINGS = [f"thing_{number}" for number in range(EVENTS)]

PUBLISHES = """
import sys
import django
django.setup()
from apps.accounts.models import Organization
from tests.webhooks.factories import publish
publish(Organization.objects.get(id=sys.argv[1]), *sys.argv[2:])
"""


@pytest.fixture
def endpoint(organization, far):
    return create_endpoint(organization, far.url(), event_types=["thing.*"], max_in_flight=1)[0]


def finish(house, organization):
    """Let a dead worker's leases end, and others do the rest."""
    end_leases()
    house.worker("events")
    house.sender()
    wait_sweeping(lambda: is_settled(organization))


class TestCommitter:
    def test_killed_before_the_nudge_has_told_nobody_and_lost_nothing(
        self, house, organization, far, endpoint
    ):
        house.ask_broker("FLUSHALL")
        died = house.start(
            "publisher", "-c", PUBLISHES, str(organization.id), *THINGS,
            role="web", KASSA_FAILPOINTS="work.committed=kill",
        )  # fmt: skip

        assert died.process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        assert house.ask_broker("DBSIZE") == 0
        house.worker("events", "default")
        house.sender()
        house.beat()
        wait_until(lambda: is_settled(organization), seconds=PATIENCE_SECONDS)

        assert OutboxBatch.objects.filter(organization_id=organization.id).exists()
        assert_delivered(organization, far)
        # Nobody died with it, so nothing was sent twice.
        assert len(far.ids()) == EVENTS


class TestEventsWorker:
    @pytest.mark.parametrize(
        "step",
        [
            # Of batches, and of a consumer's row: each claim is a transaction of its own.
            "work.claimed=kill",
            "work.claimed=kill@2",
            "outbox.numbered=kill",
            # The relay's commit, and the fan-out's.
            "work.committed=kill",
            "work.committed=kill@2",
            "outbox.consumed=kill",
        ],
    )
    @pytest.mark.soak
    def test_killed_loses_nothing_and_does_nothing_twice(
        self, house, organization, far, endpoint, step
    ):
        publish(organization, *THINGS)
        dying = house.worker("events", KASSA_FAILPOINTS=step)
        dying.wait_for(f"failpoint {step.partition('=')[0]}: kill")
        dying.kill()

        finish(house, organization)

        assert_delivered(organization, far)
        assert len(far.ids()) == EVENTS


class TestSendingWorker:
    @pytest.mark.parametrize(
        ("step", "sent_before"),
        [
            pytest.param("work.claimed=kill", range(1), marks=pytest.mark.soak),
            # The receiver took it, and nobody lived to write that down.
            ("webhooks.sent=kill@7", range(7, 8)),
            # In the transaction that records twenty, or what a second was enough for, the attempts
            # already written.
            pytest.param("webhooks.recording=kill", range(1, 21), marks=pytest.mark.soak),
        ],
    )
    def test_killed_sends_the_same_again(
        self, house, organization, far, endpoint, step, sent_before
    ):
        owe(organization, *THINGS)
        dying = house.sender(KASSA_FAILPOINTS=step)
        wait_sweeping(lambda: not dying.is_alive)
        sent = far.ids()
        assert len(sent) in sent_before
        # Whoever takes more than a second for them has recorded some: these are not sent again.
        recorded = WebhookAttempt.objects.count()
        again = sent[recorded:]
        assert bool(again) == bool(sent)
        assert WebhookDelivery.objects.filter(status="pending").count() == EVENTS - recorded

        finish(house, organization)

        assert_delivered(organization, far)
        # First the same once more, then the rest.
        ids = far.ids()
        assert ids[len(sent) : len(sent) + len(again)] == again
        assert len(ids) == EVENTS + len(again)
        assert WebhookAttempt.objects.count() == EVENTS

    def test_that_stood_still_past_its_lease_leaves_the_states_alone(
        self, house, organization, far, endpoint
    ):
        owe(organization, *THINGS[:3])
        frozen = house.sender(KASSA_FAILPOINTS="webhooks.sent=pause")
        wait_sweeping(lambda: "failpoint webhooks.sent: pause" in frozen.text)

        finish(house, organization)
        done = list(WebhookDelivery.objects.order_by("id").values_list("attempts", flat=True))
        assert done == [1, 1, 1]
        frozen.process.send_signal(signal.SIGCONT)
        wait_until(lambda: WebhookAttempt.objects.count() == 4)

        # It had sent one, and says so: a fact, but no outcome.
        frozen.wait_for("webhook_lane_lost")
        assert done == list(
            WebhookDelivery.objects.order_by("id").values_list("attempts", flat=True)
        )
        assert WebhookLane.objects.get().state == "done"
        assert len(far.ids()) == 4
        assert_delivered(organization, far)


@pytest.mark.soak
class TestJobsWorker:
    def test_killed_after_the_run_runs_the_period_once_more(self, house, organization):
        dying = house.worker("default", KASSA_FAILPOINTS="jobs.ran=kill")
        house.celery().send_task("core.plan_jobs", queue="default")
        wait_sweeping(lambda: "failpoint jobs.ran: kill" in dying.text)
        dying.kill()
        [held] = JobRun.objects.filter(state="leased")

        end_leases(JobRun)
        house.worker("default")
        wait_sweeping(lambda: set(JobRun.objects.values_list("state", flat=True)) == {"done"})

        held.refresh_from_db()
        assert (held.attempts, held.lapses) == (2, 0)
        runs = JobRun.objects.values_list("kind", "period")
        assert len(set(runs)) == len(runs)
        assert_sound(organization)
