"""Attempts and providers' events are counted by outcome, whoever works them."""

from __future__ import annotations

import pytest

from apps.core import counters
from apps.core import tasks as core_tasks
from tests.support import empty_broker, running_worker, wait_until
from tests.webhooks import inbox, receiver, things
from tests.webhooks.factories import create_endpoint, deliver, deliveries, owe

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
        core_tasks.sweep()
        wait_until(lambda: {each.status for each in deliveries(organization)} == {"succeeded"})
        wait_until(lambda: attempts() == {ATTEMPTS % "succeeded": 3.0})

    empty_broker()
