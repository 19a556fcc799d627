"""Each route asks for its scope, and without it nothing is read and nothing moves."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.accounts.errors import CapabilityMissing
from apps.core import clock
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.core.models import AuditEvent, OutboxEvent
from apps.webhooks import operations
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookSecret
from tests.accounts.factories import Api, create_staff
from tests.webhooks.acts import Acts
from tests.webhooks.factories import create_endpoint, deliver, deliveries, owe, relay
from tests.webhooks.test_endpoints_api import ALL

ENDPOINTS, ENDPOINT = "/v1/webhook_endpoints", "/v1/webhook_endpoints/{endpoint}"
DELIVERIES, DELIVERY = "/v1/webhook_deliveries", "/v1/webhook_deliveries/{delivery}"
URL = "http://127.0.0.1:9/elsewhere"

WRITES = [
    ("POST", ENDPOINTS, {"url": URL, "event_types": ["thing.*"]}),
    ("PATCH", ENDPOINT, {"url": URL}),
    ("DELETE", ENDPOINT, {}),
    ("POST", f"{ENDPOINT}/rotate_secret", {}),
    ("POST", f"{ENDPOINT}/ping", {}),
    ("POST", f"{ENDPOINT}/disable", {}),
    ("POST", f"{ENDPOINT}/enable", {"paused": "discard"}),
    ("POST", f"{ENDPOINT}/replay", {"since": "2026-11-26T00:00:00Z"}),
    ("POST", f"{DELIVERY}/replay", {}),
]
READS = [
    (ENDPOINTS, "webhooks:read"),
    (ENDPOINT, "webhooks:read"),
    (DELIVERIES, "webhooks:read"),
    (DELIVERY, "webhooks:read"),
    (f"{DELIVERY}/attempts", "webhooks:read"),
    ("/v1/events", "events:read"),
    ("/v1/events/{event}", "events:read"),
]


@pytest.fixture
def ids(organization, far):
    """What the paths name: an endpoint, and a delivery to it that has ended."""
    endpoint, _ = create_endpoint(organization, far.url, event_types=["thing.*"])
    owe(organization, "thing_1")
    deliver()
    relay()
    [delivery] = deliveries(organization)
    return {
        "endpoint": encode_id("whe", endpoint.id),
        "delivery": encode_id("whd", delivery.id),
        "event": encode_id("evt", delivery.event_id),
    }


def key_without(organization, scope):
    """A key with every scope there is but this one."""
    return Api(organization, *(each for each in ALL if each != scope))


def assert_lacks(answer, scope):
    said = answer.json()
    assert (answer.status_code, said["code"]) == (403, "insufficient_scope")
    assert said["required_scope"] == scope


def all_rows(*more):
    models = (WebhookEndpoint, WebhookSecret, WebhookDelivery, OutboxEvent, *more)
    return [list(model.objects.order_by("id").values()) for model in models]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_key_that_may_not_write_changes_nothing(organization, far, ids, method, path, body):
    key = key_without(organization, "webhooks:write")
    before = all_rows(AuditEvent)

    answer = key.send(method, path.format(**ids), body, **{"Idempotency-Key": "k"})

    assert_lacks(answer, "webhooks:write")
    assert all_rows(AuditEvent) == before
    assert deliver() == 0


@pytest.mark.parametrize(("path", "scope"), READS)
def test_a_key_that_may_not_read_is_shown_nothing(organization, ids, path, scope):
    assert_lacks(key_without(organization, scope).get(path.format(**ids)), scope)
    # And with that alone it is, of what is about webhooks.
    readers = {scope, "webhooks:read"}
    assert Api(organization, *readers).get(path.format(**ids)).status_code == 200


ACTS = [
    ("ping_endpoint", "support", {}),
    ("ping_endpoint", "auditor", {}),
    ("enable_endpoint", "support", {"paused": "discard", "since": None}),
    ("disable_endpoint", "support_readonly", {}),
    ("disable_endpoint", "auditor", {}),
    ("replay_failed", "support_readonly", {"since": timedelta(hours=1)}),
    ("replay_failed", "risk_analyst", {"since": timedelta(hours=1)}),
]


def act(name, role, **what):
    """Have somebody of this role do it, round the screen that would not let them."""
    getattr(operations, name)(
        **what,
        reason="They asked.",
        idempotency_key="once",
        actor=Actor.staff(create_staff(role).pk),
        now=clock.now(),
    )


@pytest.mark.parametrize(("name", "role", "what"), ACTS)
def test_staff_without_the_capability_change_nothing(organization, ids, name, role, what):
    acts = Acts(WebhookEndpoint.objects.get())
    if name == "enable_endpoint":
        acts.disable()
    if what.get("since"):
        what = {"since": clock.now() - what["since"]}
    before = all_rows()

    with pytest.raises(CapabilityMissing):
        act(name, role, **acts.key, **what)

    assert all_rows() == before


@pytest.mark.parametrize("role", ["support_readonly", "risk_analyst"])
def test_staff_without_the_capability_send_no_delivery_again(organization, ids, role):
    [delivery] = deliveries(organization)
    before = all_rows()

    with pytest.raises(CapabilityMissing):
        act("replay_delivery", role, organization_id=organization.id, delivery_id=delivery.id)

    assert all_rows() == before
    assert deliver() == 0
