"""What is done to an endpoint is in the audit trail, and told to the organization's others."""

from __future__ import annotations

import json

import pytest
from standardwebhooks import Webhook

from apps.core import clock
from apps.core.ids import encode_id
from apps.core.models import AuditEvent
from apps.webhooks import operations
from apps.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookSecret
from tests.webhooks import receiver
from tests.webhooks.acts import Acts
from tests.webhooks.factories import TESTS, create_endpoint, deliver, make_due, owe, relay
from tests.webhooks.receiver import Receiver


@pytest.fixture
def watching(organization):
    """The receiver of an endpoint that is told about all others, and its secret."""
    with Receiver() as watching:
        _, secret = create_endpoint(organization, watching.url, event_types=["webhook_endpoint.*"])
        yield watching, secret


def test_the_others_are_told_what_became_of_it_and_not_the_endpoint_itself(
    organization, far, watching
):
    seeing, secret = watching
    endpoint, _ = create_endpoint(organization, far.url, event_types=["*"])
    acts = Acts(endpoint)
    acts.update(description="Orders")
    acts.disable()
    acts.enable()
    relay()
    deliver()

    told = [Webhook(secret).verify(each.body, each.headers) for each in seeing.requests]
    about = encode_id("whe", endpoint.id)
    assert sorted((each["sequence"], each["type"]) for each in told) == [
        (1, "webhook_endpoint.created"),
        (2, "webhook_endpoint.updated"),
        (3, "webhook_endpoint.disabled"),
        (4, "webhook_endpoint.enabled"),
    ]
    assert {(each["aggregate"]["type"], each["aggregate"]["id"]) for each in told} == {
        ("webhook_endpoint", about)
    }
    # Of the one that watches it was told nothing either: that was there before.
    assert far.requests == []
    assert secret not in json.dumps(told)


def test_each_act_is_in_the_audit_trail_by_who_did_it(organization, far):
    endpoint, _ = create_endpoint(organization, far.url)
    owe(organization, "thing_1")
    deliver()
    acts, more = Acts(endpoint), {"reason": "They asked.", "actor": TESTS, "now": clock.now()}
    acts.update(description="Orders")
    acts.rotate()
    operations.ping_endpoint(**acts.key, idempotency_key="ping", **more)
    operations.replay_delivery(
        organization_id=organization.id,
        delivery_id=WebhookDelivery.objects.get().id,
        idempotency_key="replay",
        **more,
    )
    operations.disable_endpoint(**acts.key, idempotency_key="off", **more)
    acts.enable("discard")
    acts.delete()

    rows = AuditEvent.objects.filter(subject_id=str(endpoint.id)).order_by("id")
    assert [(row.act.removeprefix("webhooks."), row.reason) for row in rows] == [
        ("create_endpoint", ""),
        ("update_endpoint", ""),
        ("rotate_secret", ""),
        ("ping_endpoint", "They asked."),
        ("replay", "They asked."),
        ("disable_endpoint", "They asked."),
        ("enable_endpoint", ""),
        ("delete_endpoint", ""),
    ]
    assert {(row.organization_id, row.principal) for row in rows} == {(organization.id, str(TESTS))}


def test_no_log_says_more_of_a_url_than_its_host(organization, far, settings, caplog, capfd):
    """What is behind the host may be a token; and nothing says a secret."""
    token = "t0ken-nobody-sees"
    with caplog.at_level("DEBUG"):
        endpoint, secret = create_endpoint(organization, f"{far.url}/{token}?key={token}")
        acts = Acts(endpoint)
        far.answers = [receiver.answer("500 Oh"), receiver.answer("410 Gone")]
        owe(organization, "thing_1")
        deliver()
        make_due(organization)
        deliver()
        acts.enable()
        acts.update(url=f"{far.url}/{token}/new")
        settings.WEBHOOK_ALLOW_NETWORKS = []
        make_due(organization)
        deliver()
        settings.WEBHOOK_ALLOW_NETWORKS = ["127.0.0.0/8"]
        WebhookSecret.objects.update(sealed=b"no secret")
        make_due(organization)
        deliver()

    said = caplog.text + "".join(capfd.readouterr())
    assert "webhook_endpoint_disabled" in said
    assert "webhook_turn_failed" in said
    assert {each.outcome for each in WebhookAttempt.objects.all()} == {
        "server_error",
        "gone",
        "blocked_address",
    }
    for word in (token, secret.removeprefix("whsec_")):
        assert word not in said
