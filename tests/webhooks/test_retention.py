"""What was owed goes with its event, and not before; what is still to be sent keeps its week."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from django.db import IntegrityError

from apps.core import clock, invariants, partitions, retention
from apps.core.partitions import EventsStillNeeded
from apps.ledger.tasks import seal_due
from apps.webhooks import operations, tasks
from apps.webhooks.models import WebhookAttempt, WebhookBody, WebhookDelivery, WebhookFanout
from tests.core.weeks_of_tests import (
    WEEK,
    at,
    ensure_weeks_from,
    made_at,
    monday,
    run,
)
from tests.support import race
from tests.webhooks import receiver
from tests.webhooks.factories import TESTS, create_endpoint, deliver, deliveries, make_due, owe

OWED = (WebhookAttempt, WebhookDelivery, WebhookBody, WebhookFanout)


@pytest.fixture
def now():
    return clock.now()


@pytest.fixture(autouse=True)
def weeks(weeks_restored, transactional_db, now):
    ensure_weeks_from(monday(now) - 20 * WEEK)


@pytest.fixture
def endpoint(organization, far):
    made, _ = create_endpoint(organization, far.url, event_types=["thing.*"])
    return made


def counts():
    return [model.objects.count() for model in OWED]


def happen(organization, instant, *things):
    """Publish events at an instant and deliver them, by the clock that ids are made from."""

    def act():
        owe(organization, *things)
        deliver()

    at(instant, act)


def drop_weeks(now):
    """What jobs do: the chains come as far as the feed is, then weeks that are over go."""
    list(seal_due("", now))
    partitions.drop_weeks("", now)


def replay(delivery, now):
    return operations.replay_delivery(
        organization_id=delivery.organization_id,
        delivery_id=delivery.id,
        reason="asked for",
        idempotency_key=f"again-{delivery.id}",
        actor=TESTS,
        now=now,
    )


def age(*, days):
    """Let what was closed have been closed so long ago, as it was by the clock of its time."""
    run(
        "UPDATE webhooks_webhookdelivery SET closed_at = closed_at - make_interval(days => %s)"
        " WHERE id < kassa_first_id(now() - interval '30 days')",
        days,
    )


class TestPurge:
    def test_takes_all_of_an_event_that_went_and_nothing_of_one_that_stays(
        self, organization, endpoint, now
    ):
        happen(organization, now - 19 * WEEK, "thing_1", "thing_2")
        happen(organization, now - 2 * WEEK, "thing_3")
        age(days=19 * 7)
        assert counts() == [3, 3, 3, 3]

        tasks.purge_deliveries("", now)
        assert counts() == [3, 3, 3, 3]
        drop_weeks(now)
        tasks.purge_deliveries("", now)

        assert counts() == [1, 1, 1, 1]
        assert deliveries(organization)[0].aggregate_id == "thing_3"
        assert invariants.breaches() == []

    def test_goes_on_portion_by_portion(self, organization, endpoint, now, monkeypatch):
        monkeypatch.setattr(operations._retention, "_PORTION", 2)
        monkeypatch.setattr(retention, "_PAGES", 1)
        happen(organization, now - 19 * WEEK, *(f"thing_{number}" for number in range(5)))
        age(days=19 * 7)
        drop_weeks(now)

        assert operations.purge_deliveries(now=now) == 5
        assert counts() == [0, 0, 0, 0]

    def test_keeps_what_was_sent_again_lately(self, organization, endpoint, now):
        happen(organization, now - 19 * WEEK, "thing_1")
        age(days=19 * 7)
        drop_weeks(now)
        [delivery] = deliveries(organization)
        replay(delivery, now)
        tasks.purge_deliveries("", now)
        assert deliveries(organization)[0].status == "pending"
        deliver()

        tasks.purge_deliveries("", now)

        assert deliveries(organization)[0].status == "succeeded"
        assert counts() == [2, 1, 1, 1]

    def test_takes_what_was_set_aside_along_with_its_event(self, organization, endpoint, far, now):
        operations.disable_endpoint(
            organization_id=organization.id,
            endpoint_id=endpoint.id,
            reason="over",
            idempotency_key="off",
            actor=TESTS,
            now=now,
        )
        happen(organization, now - 19 * WEEK, "thing_1")
        assert deliveries(organization)[0].status == "paused"
        drop_weeks(now)

        tasks.purge_deliveries("", now)

        assert counts() == [0, 0, 0, 0]

    def test_and_a_replay_at_once_leave_all_of_it_or_nothing(self, organization, endpoint, now):
        happen(organization, now - 19 * WEEK, *(f"thing_{number}" for number in range(4)))
        age(days=19 * 7)
        drop_weeks(now)

        race(
            *(partial(replay, delivery, now) for delivery in deliveries(organization)),
            partial(operations.purge_deliveries, now=now),
        )

        made = counts()
        assert made == [made[0]] * 4
        assert {each.status for each in deliveries(organization)} <= {"pending"}
        deliver()
        assert invariants.breaches() == []


class TestGuards:
    TABLES = [model._meta.db_table for model in OWED]

    @pytest.mark.parametrize("table", TABLES)
    def test_refuse_to_delete_what_is_younger_than_a_month(
        self, organization, endpoint, now, table
    ):
        happen(organization, now - timedelta(days=29), "thing_1")

        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with pytest.raises(IntegrityError) as refused:
                run(statement)
            assert refused.value.__cause__.sqlstate == "23001"

        assert counts() == [1, 1, 1, 1]

    def test_refuse_to_delete_what_is_still_to_be_sent(self, organization, endpoint, far, now):
        far.answers = [receiver.answer(500)]
        with made_at(now - 19 * WEEK):
            owe(organization, "thing_1")

        with pytest.raises(IntegrityError) as refused:
            run("DELETE FROM webhooks_webhookdelivery")

        assert refused.value.__cause__.diag.constraint_name == "webhook_delivery_is_kept"

    @pytest.mark.parametrize("table", ["attempt", "body", "fanout"])
    def test_refuse_a_change_however_old_it_is(self, organization, endpoint, now, table):
        happen(organization, now - 19 * WEEK, "thing_1")

        with pytest.raises(IntegrityError):
            run(f"UPDATE webhooks_webhook{table} SET organization_id = organization_id")


class TestWeeks:
    def test_stay_while_something_of_them_is_to_be_sent(self, organization, endpoint, far, now):
        far.answers = [receiver.answer(500), receiver.ok()]
        happen(organization, now - 19 * WEEK, "thing_1")
        assert deliveries(organization)[0].status == "pending"

        with pytest.raises(EventsStillNeeded, match=r"webhooks\.deliver"):
            drop_weeks(now)

        make_due(organization)
        deliver()
        drop_weeks(now)
        assert run("SELECT count(*) FROM core_outbox_event WHERE type = 'thing.changed'") == [(0,)]
