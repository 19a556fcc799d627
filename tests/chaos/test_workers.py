"""Workers and beats that die, are told to end, are doubled, are missing, or have a wrong clock."""

from __future__ import annotations

import signal
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection
from standardwebhooks import Webhook

from apps.core.models import JobRun, OutboxBatch
from apps.webhooks.models import WebhookLane
from tests.chaos.house import PATIENCE_SECONDS
from tests.chaos.oracles import assert_delivered, assert_sound, is_settled
from tests.support import wait_until
from tests.webhooks.factories import create_endpoint, owe, publish

pytestmark = [pytest.mark.soak, pytest.mark.timeout(280)]

# Of the minute within which others take over, a few seconds are the sweep's and theirs.
LEASE_SECONDS_MAX = 46
JOB_LEASE_SECONDS_MAX = 48
AN_HOUR = 1
EVERYTHING = ("money", "settlement", "events", "risk", "default")


def things(count, *, first=0):
    return [f"thing_{number}" for number in range(first, first + count)]


def settle(organization):
    wait_until(partial(is_settled, organization), seconds=PATIENCE_SECONDS)


def database_now():
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


class TestKilledWorkers:
    def test_are_succeeded_within_a_minute(self, house, organization, far):
        create_endpoint(organization, far.url(), event_types=["thing.*"], max_in_flight=1)
        owe(organization, *things(5))
        publish(organization, *things(5, first=5))
        house.beat()
        doomed = [
            house.worker("events", "default", KASSA_FAILPOINTS="work.claimed=kill"),
            house.sender(KASSA_FAILPOINTS="webhooks.sent=kill@3"),
        ]
        doomed[0].wait_for("failpoint work.claimed: kill")
        wait_until(lambda: not doomed[1].is_alive, seconds=PATIENCE_SECONDS)
        for worker in doomed:
            worker.kill()
        killed_at = database_now()

        # A lease is all that its row waits for: no message's visibility, and nobody's help.
        held = [
            *OutboxBatch.objects.filter(state="leased"),
            *WebhookLane.objects.filter(state="leased"),
        ]
        assert len(held) == 2
        longest = max(row.lease_until for row in held) - killed_at
        assert longest < timedelta(seconds=LEASE_SECONDS_MAX)
        house.worker("events", "default")
        house.sender()
        settle(organization)

        assert_delivered(organization, far)
        # Of the three that it had sent at least the last was nowhere recorded, and is sent again.
        assert 11 <= len(far.ids()) <= 13

    def test_are_succeeded_in_their_jobs_too(self, house, organization):
        house.beat()
        doomed = house.worker("default", KASSA_FAILPOINTS="work.claimed=kill")
        doomed.wait_for("failpoint work.claimed: kill")
        doomed.kill()
        killed_at = database_now()

        held = list(JobRun.objects.filter(state="leased"))
        longest = max(row.lease_until for row in held) - killed_at
        assert longest < timedelta(seconds=JOB_LEASE_SECONDS_MAX)
        house.worker("default")

        # Nobody ends their leases for them; a period that a later one replaced is done as well.
        mine = JobRun.objects.filter(id__in=[row.id for row in held])
        wait_until(
            lambda: set(mine.values_list("state", flat=True)) == {"done"}, seconds=PATIENCE_SECONDS
        )
        assert set(mine.values_list("attempts", flat=True)) == {2}
        assert_sound(organization)


class TestWorkersToldToEnd:
    def test_under_load_leave_the_rest_to_others(self, house, organization, far):
        create_endpoint(organization, far.url("slow/0.05"), event_types=["thing.*"])
        house.beat()
        leaving = [house.worker(*EVERYTHING, concurrency=2), house.sender()]
        for first in range(0, 200, 20):
            publish(organization, *things(20, first=first))
        wait_until(lambda: len(far.ids("slow/0.05")) >= 20, seconds=PATIENCE_SECONDS)

        for worker in leaving:
            worker.terminate()
        house.worker(*EVERYTHING)
        house.sender()

        for worker in leaving:
            # Asked once, and not killed.
            assert worker.process.wait(PATIENCE_SECONDS) == 0
        settle(organization)
        assert_delivered(organization, far, path="slow/0.05")
        # Whoever is let finish sends nothing twice.
        assert len(far.ids("slow/0.05")) == 200


class TestBeats:
    def test_twice_are_as_good_as_one(self, house, organization, far):
        create_endpoint(organization, far.url(), event_types=["thing.*"])
        house.beat()
        house.beat()
        house.worker(*EVERYTHING, concurrency=2)
        house.sender()
        for first in range(0, 50, 5):
            publish(organization, *things(5, first=first))

        settle(organization)
        wait_until(
            lambda: set(JobRun.objects.values_list("state", flat=True)) == {"done"},
            seconds=PATIENCE_SECONDS,
        )

        assert_delivered(organization, far)
        assert len(far.ids()) == 50
        runs = list(JobRun.objects.values_list("kind", "period"))
        assert len(runs) == len(set(runs))
        assert set(JobRun.objects.values_list("attempts", flat=True)) == {1}

    def test_missing_cost_nothing_but_what_nobody_was_told_of(self, house, organization, far):
        create_endpoint(organization, far.url(), event_types=["thing.*"])
        house.worker(*EVERYTHING)
        house.sender()
        publish(organization, *things(10))
        # Nudges alone.
        settle(organization)
        assert len(far.ids()) == 10

        publish(organization, *things(10, first=10))
        house.ask_broker("FLUSHALL")
        house.beat()
        settle(organization)

        assert_delivered(organization, far)

    def test_go_on_though_their_clock_is_set_back(self, house, organization, far):
        create_endpoint(organization, far.url(), event_types=["thing.*"])
        publish(organization, *things(10))
        beat = house.beat(hours=AN_HOUR)
        wait_until(lambda: house.ask_broker("LLEN", "default") > 0, seconds=PATIENCE_SECONDS)

        beat.process.send_signal(signal.SIGUSR1)
        beat.wait_for("the clock is set right")
        # Only what it sends from now on tells anybody.
        house.ask_broker("FLUSHALL")
        house.worker(*EVERYTHING)
        house.sender()
        settle(organization)

        assert_delivered(organization, far)


class TestWrongClocks:
    @pytest.mark.parametrize(
        ("workers", "beat"),
        [(AN_HOUR, 0), (-AN_HOUR, 0), (0, -AN_HOUR)],
        ids=["workers ahead", "workers behind", "beat behind"],
    )
    def test_hold_nothing_up(self, house, organization, far, workers, beat):
        _, secret = create_endpoint(organization, far.url(), event_types=["thing.*"])
        publish(organization, *things(20))
        # Only the sweep finds it.
        house.ask_broker("FLUSHALL")
        house.worker(*EVERYTHING, hours=workers)
        house.sender(hours=workers)
        house.beat(hours=beat)

        settle(organization)

        assert_delivered(organization, far)
        for each in far.received():
            Webhook(secret).verify(each.body, each.headers)
