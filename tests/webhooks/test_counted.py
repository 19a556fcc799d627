"""Attempts and providers' events are counted by outcome, whoever works them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.core import clock, counters, work
from apps.core.ids import decode_id, made_at
from apps.webhooks import operations, tasks
from apps.webhooks.rules.retries import Outcome
from tests.support import empty_broker, running_worker, wait_until
from tests.webhooks import inbox, receiver, things
from tests.webhooks.factories import create_endpoint, deliver, deliveries, make_due, owe

ATTEMPTS = 'kassa_webhook_attempts_total{outcome="%s"}'


def attempts():
    prefix = ATTEMPTS.partition("{")[0]
    return {key: count for key, count in counters.read().items() if key.startswith(prefix)}


def test_by_what_became_of_them(organization, far, metrics_folder):
    far.answers = [receiver.ok(), receiver.answer("503 Unavailable"), receiver.ok()]
    create_endpoint(organization, far.url, event_types=["thing.*"], max_in_flight=1)
    owe(organization, "thing_1", "thing_2", "thing_3")

    deliver()

    assert attempts() == {ATTEMPTS % "server_error": 1.0, ATTEMPTS % "succeeded": 2.0}


def firsts(part):
    prefix = f"kassa_webhook_first_attempt_seconds_{part}{{"
    return {
        key.removeprefix(prefix): count
        for key, count in counters.read().items()
        if key.startswith(prefix)
    }


def test_once_an_event_by_how_long_it_waited_for_its_first_attempt(
    organization, far, metrics_folder
):
    far.answers = [receiver.answer("503 Unavailable"), receiver.ok(), receiver.ok()]
    create_endpoint(organization, far.url, event_types=["thing.*"], max_in_flight=1)
    owe(organization, "thing_1", "thing_2")
    deliver()
    make_due(organization)
    deliver()

    # Three attempts were made; a second one is nobody's first.
    assert len(far.requests) == 3
    assert firsts("count") == {'outcome="server_error"}': 1.0, 'outcome="succeeded"}': 1.0}


def test_by_the_half_minute_that_an_event_may_wait(organization, far, metrics_folder):
    create_endpoint(organization, far.url, event_types=["thing.*"])
    owe(organization, "thing_1")
    lane = tasks.claim_lane(is_slow=False)
    [owed] = operations.open_lane(lane=lane, limit=10, now=clock.now()).owed
    happened_at = made_at(decode_id("evt", owed.message_id))

    for seconds in (-1, 30, 31):
        operations.count_first_attempt(
            owed, begun_at=happened_at + timedelta(seconds=seconds), outcome=Outcome.SUCCEEDED
        )

    assert firsts("bucket")['outcome="succeeded",le="1"}'] == 1.0
    assert firsts("bucket")['outcome="succeeded",le="30"}'] == 2.0
    assert firsts("count") == {'outcome="succeeded"}': 3.0}
    assert firsts("sum") == {'outcome="succeeded"}': 61.0}


@pytest.mark.usefixtures("known_things")
def test_of_providers_events_by_what_came_of_them(organization, connection, metrics_folder):
    things.appear(organization, "thing_1")
    for type_, key in (
        ("thing.paid", "thing_1"),
        ("thing.funded", "thing_1"),
        ("thing.paid", "thing_unknown"),
        ("thing.renamed", "thing_1"),
        ("thing.renamed", "thing_2"),
    ):
        inbox.say(connection, type_, key)
        inbox.work_all()

    assert {key: count for key, count in counters.read().items() if "inbound_events" in key} == {
        f'kassa_inbound_events_total{{outcome="{outcome}"}}': count
        for outcome, count in (
            ("applied", 1.0),
            ("superseded", 1.0),
            ("parked", 1.0),
            ("ignored", 2.0),
        )
    }


def test_by_real_workers_of_either_pool(organization, far, metrics_folder):
    create_endpoint(organization, far.url, event_types=["thing.*"])
    empty_broker()

    owe(organization, "thing_1", "thing_2", "thing_3")
    counted = {"KASSA_METRICS_DIR": str(metrics_folder)}
    with (
        running_worker("default", concurrency=1, **counted),
        running_worker("webhooks", pool="threads", **counted),
    ):
        work.sweep()
        wait_until(lambda: {each.status for each in deliveries(organization)} == {"succeeded"})
        wait_until(lambda: attempts() == {ATTEMPTS % "succeeded": 3.0})

    empty_broker()
