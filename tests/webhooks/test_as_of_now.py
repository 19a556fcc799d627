"""What was decided a while ago is asked again at the moment at which it is acted on."""

from __future__ import annotations

import threading
from functools import partial

from apps.core import clock, outbox, statements, transactions
from apps.webhooks import operations
from apps.webhooks.adapters import addresses
from apps.webhooks.models import WebhookAttempt
from tests.support import race, wait_until
from tests.webhooks.acts import Acts
from tests.webhooks.conftest import broken_invariants
from tests.webhooks.factories import create_endpoint, deliver, deliveries, owe, publish, relay
from tests.webhooks.waiting import is_anybody_waiting


def test_fan_out_that_waits_for_a_lane_goes_by_what_was_done_under_its_lock(organization, far):
    endpoint, _ = create_endpoint(organization, far.url, event_types=["thing.*"])
    relay()
    publish(organization, "thing_1")
    outbox.relay()
    locked, go_on = threading.Event(), threading.Event()
    acts = Acts(endpoint)

    @transactions.outermost
    def disable_slowly():
        operations.disable_endpoint.__wrapped__(
            **acts.key, **acts.by, reason="", idempotency_key="off", now=clock.now()
        )
        statements.flush()
        locked.set()
        assert go_on.wait(30)

    def fan_out():
        assert locked.wait(30)
        outbox.consume()

    def let_go():
        assert locked.wait(30)
        wait_until(is_anybody_waiting)
        go_on.set()

    race(disable_slowly, fan_out, let_go)

    assert [each.status for each in deliveries(organization)] == ["paused"]
    assert broken_invariants() == []


def test_a_url_that_is_not_sent_to_any_more_is_not_even_looked_up(
    organization, settings, monkeypatch
):
    settings.WEBHOOK_PORTS = [443, 8443]
    create_endpoint(organization, "https://hooks.example:8443/", event_types=["thing.*"])
    owe(organization, "thing_1")
    settings.WEBHOOK_PORTS = [443]
    asked = []
    monkeypatch.setattr(addresses.socket, "getaddrinfo", partial(_note, asked))

    assert deliver() == 1

    assert asked == []
    assert WebhookAttempt.objects.get().outcome == "blocked_address"
    assert [each.status for each in deliveries(organization)] == ["pending"]


def _note(asked, host, *_, **__):
    asked.append(host)
    return []
