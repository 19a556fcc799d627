"""What a key may read decides what it has an endpoint sent, and what it sees of deliveries."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import get_resolver

from apps.core import clock
from apps.core.api.caller import declared_scopes
from apps.core.ids import encode_id
from apps.webhooks import operations, queries
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookReplay, WebhookSecret
from tests.accounts.factories import Api
from tests.webhooks.factories import (
    TESTS,
    create_customer,
    create_endpoint,
    deliver,
    deliveries,
    owe,
    relay,
)

# Every scope that a route asks for; complete once the URLs are loaded.
get_resolver().url_patterns  # noqa: B018  (loads them)
ALL = tuple(sorted(declared_scopes()))
NARROW = ("webhooks:read", "webhooks:write", "events:read")
PATH = "/v1/webhook_endpoints"
DELIVERIES = "/v1/webhook_deliveries"


@pytest.fixture
def narrow(organization):
    """A key that may read what is about webhooks, and nothing else."""
    return Api(organization, *NARROW)


@pytest.fixture
def endpoint(organization, far):
    """An endpoint that was given what the narrow key may not read."""
    made, _ = create_endpoint(organization, far.url, event_types=["customer.*", "thing.*"])
    return made


def path_of(endpoint, act=""):
    return f"{PATH}/{encode_id('whe', endpoint.id)}{act}"


def fail_all(organization):
    """As if every attempt at what is owed had failed."""
    WebhookDelivery.objects.filter(organization=organization).update(
        status="failed", closed_at=clock.now()
    )


def assert_lacks(answer, scope="customers:read"):
    said = answer.json()
    assert (answer.status_code, said["code"]) == (403, "insufficient_scope")
    assert said["required_scope"] == scope


class TestSubscribing:
    @pytest.mark.parametrize(
        ("event_type", "scope"),
        [
            ("customer.created", "customers:read"),
            ("hold.*", "ledger:read"),
            ("fx_transfer.posted", "ledger:read"),
            ("balance_monitor.triggered", "ledger:read"),
            ("period.*", "ledger:read"),
            ("journal_entry.posted", "ledger:read"),
            ("destination.*", "payouts:read"),
            ("payout.returned", "payouts:read"),
            ("payment.received", "payments:read"),
            ("break.*", "breaks:read"),
            ("bank_file.imported", "bank_files:read"),
        ],
    )
    def test_takes_the_scope_of_the_route_that_shows_it(
        self, organization, narrow, far, event_type, scope
    ):
        asked = {"url": far.url, "event_types": [event_type]}

        assert_lacks(narrow.post(PATH, asked), scope)
        assert WebhookEndpoint.objects.count() == 0
        assert Api(organization, *NARROW, scope).post(PATH, asked).status_code == 201

    def test_takes_every_scope_for_every_type(self, organization, narrow, far):
        every = {"url": far.url, "event_types": ["*"]}

        assert_lacks(narrow.post(PATH, every), "ledger:read")
        most = Api(organization, *(scope for scope in ALL if scope != "breaks:read"))
        assert_lacks(most.post(PATH, every), "breaks:read")
        assert Api(organization, *ALL).post(PATH, every).status_code == 201

    def test_to_what_webhooks_say_of_themselves_takes_to_read_them(self, organization, far):
        writer = Api(organization, "webhooks:write")

        asked = {"url": far.url, "event_types": ["webhook_endpoint.*"]}
        assert_lacks(writer.post(PATH, asked), "webhooks:read")


class TestAnEndpointOfWhatTheKeyMayNotRead:
    @pytest.mark.parametrize(
        ("method", "act", "body"),
        [
            ("PATCH", "", {"url": "http://127.0.0.1:9/elsewhere"}),
            ("PATCH", "", {"url": "http://127.0.0.1:9/elsewhere", "event_types": ["thing.*"]}),
            ("PATCH", "", {"event_types": ["customer.*"]}),
            ("POST", "/rotate_secret", {}),
            ("POST", "/replay", {"since": "2026-11-25T00:00:00Z"}),
        ],
    )
    def test_is_not_led_elsewhere_nor_signed_anew_nor_replayed(
        self, narrow, endpoint, method, act, body
    ):
        if "since" in body:
            body = {"since": (clock.now() - timedelta(hours=1)).isoformat()}
        before = WebhookEndpoint.objects.values().get(), WebhookSecret.objects.values().get()

        answer = narrow.send(method, path_of(endpoint, act), body, **{"Idempotency-Key": "k"})

        assert_lacks(answer)
        after = WebhookEndpoint.objects.values().get(), WebhookSecret.objects.values().get()
        assert after == before
        assert WebhookReplay.objects.count() == 0

    def test_is_not_switched_on(self, narrow, endpoint):
        assert narrow.post(path_of(endpoint, "/disable"), {}).status_code == 200

        assert_lacks(narrow.post(path_of(endpoint, "/enable"), {"paused": "resume"}))
        assert WebhookEndpoint.objects.get().status == "disabled"

    def test_may_be_described_pinged_and_narrowed(self, narrow, endpoint):
        for change in ({"description": "old"}, {"event_types": ["thing.*"]}):
            assert narrow.patch(path_of(endpoint), change).status_code == 200
        assert narrow.post(path_of(endpoint, "/ping"), {}).status_code == 202
        assert narrow.send("DELETE", path_of(endpoint), None).status_code == 204

    def test_is_led_elsewhere_by_a_key_that_may_read_it(self, organization, endpoint, far):
        full = Api(organization, *NARROW, "customers:read")

        moved = full.patch(path_of(endpoint), {"url": f"{far.url}/elsewhere"})

        assert moved.json()["url"] == f"{far.url}/elsewhere"
        assert full.post(path_of(endpoint, "/rotate_secret"), {}).json()["secret"]

    def test_with_every_type_is_as_one_with_each_of_them(self, organization, narrow, far):
        every, _ = create_endpoint(organization, far.url, event_types=["*"])

        moved = narrow.patch(path_of(every), {"url": f"{far.url}/elsewhere"})

        assert_lacks(moved, "ledger:read")


class TestWhatIsStillOwed:
    """The endpoint no longer takes customers' events, and is owed one from before."""

    @pytest.fixture
    def narrowed(self, organization, endpoint):
        create_customer(organization)
        relay()
        operations.update_endpoint(
            organization_id=organization.id,
            endpoint_id=endpoint.id,
            changes={"event_types": ["thing.*"]},
            actor=TESTS,
            now=clock.now(),
        )
        return endpoint

    def test_is_not_led_elsewhere(self, narrow, narrowed, far):
        assert_lacks(narrow.patch(path_of(narrowed), {"url": f"{far.url}/elsewhere"}))

        deliver()
        assert [each.request_line.split()[1] for each in far.requests] == ["/hook"]

    def test_is_not_sent_again_with_the_rest(self, organization, narrow, narrowed, far):
        owe(organization, "thing_1")
        fail_all(organization)
        since = {"since": (clock.now() - timedelta(hours=1)).isoformat()}

        assert_lacks(narrow.post(path_of(narrowed, "/replay"), since))

        assert {each.status for each in deliveries(organization)} == {"failed"}
        assert deliver() == 0


class TestDeliveriesOfWhatTheKeyMayNotRead:
    def test_are_not_there_for_it(self, organization, narrow, endpoint):
        create_customer(organization)
        owe(organization, "thing_1")
        deliver()
        full = Api(organization, *ALL)
        of_customer, of_thing = (
            encode_id("whd", deliveries(organization, event_type=type_)[0].id)
            for type_ in ("customer.created", "thing.changed")
        )

        assert len(full.get(DELIVERIES).json()["data"]) == 2
        [seen] = narrow.get(DELIVERIES).json()["data"]
        assert seen["id"] == of_thing
        for path in (of_customer, f"{of_customer}/attempts"):
            assert full.get(f"{DELIVERIES}/{path}").status_code == 200
            assert narrow.get(f"{DELIVERIES}/{path}").status_code == 404
        assert narrow.post(f"{DELIVERIES}/{of_customer}/replay").status_code == 404
        assert narrow.post(f"{DELIVERIES}/{of_thing}/replay").status_code == 202
        assert deliver() == 1


class TestTheFeed:
    def test_holds_what_the_key_may_read(self, organization, narrow):
        create_customer(organization)
        owe(organization, "thing_1")

        assert [each["type"] for each in narrow.get("/v1/events").json()["data"]] == [
            "thing.changed"
        ]
        assert narrow.get("/v1/events?type=customer.created").json()["data"] == []

    def test_has_no_type_that_asks_for_no_scope(self):
        asked = queries.get_read_scopes()

        assert "" not in asked.values()
        assert {"hold.placed", "period.closed", "destination.created"} <= asked.keys()
