"""Who is pinned to an older version goes on with its shape; who asked for nothing gets nothing."""

from __future__ import annotations

import json

import pytest
from django.urls import get_resolver
from standardwebhooks import Webhook

from apps.core import clock
from apps.core.api.caller import declared_scopes
from apps.core.ids import encode_id
from apps.core.models import OutboxEvent
from apps.webhooks import operations
from apps.webhooks.models import WebhookAttempt, WebhookBody, WebhookDelivery
from tests.accounts.factories import Api, create_organization
from tests.support import past_the_guards
from tests.webhooks import receiver
from tests.webhooks.conftest import broken_invariants
from tests.webhooks.factories import TESTS, create_endpoint, deliver, deliveries, make_due
from tests.webhooks.older_versions import FIRST, SECOND, SHAPES, THIRD, lose_parcel, send_parcel
from tests.webhooks.receiver import Receiver

# Every scope that a route asks for; complete once the URLs are loaded.
get_resolver().url_patterns  # noqa: B018  (loads them)
ALL = tuple(sorted(declared_scopes()))
ENDPOINTS = "/v1/webhook_endpoints"


def api_of(organization, *, version=THIRD):
    """A client whose key was issued while this version was the newest."""
    api = Api(organization, *ALL)
    past_the_guards(
        f"UPDATE accounts_apikey SET kassa_version = '{version}' WHERE id = '{api.key.id}'"
    )
    return api


def received(far):
    return [json.loads(request.body) for request in far.requests]


class TestEndpoint:
    def test_pinned_to_an_older_version_gets_its_shape(self, organization):
        secrets, bodies = {}, {}
        with Receiver() as first, Receiver() as second, Receiver() as third:
            far = {FIRST: first, SECOND: second, THIRD: third}
            for version, each in far.items():
                _, secrets[version] = create_endpoint(
                    organization, each.url, event_types=["parcel.*"], api_version=version
                )
            send_parcel(organization)
            assert deliver() == 3

            for version, each in far.items():
                [request] = each.requests
                bodies[version] = Webhook(secrets[version]).verify(request.body, request.headers)

        assert {version: body["data"] for version, body in bodies.items()} == SHAPES
        assert {version: body["api_version"] for version, body in bodies.items()} == {
            version: version for version in SHAPES
        }
        envelopes = [
            {name: body[name] for name in body if name not in {"data", "api_version"}}
            for body in bodies.values()
        ]
        assert envelopes[0] == envelopes[1] == envelopes[2]
        assert WebhookBody.objects.count() == 3
        assert OutboxEvent.objects.get(type="parcel.sent").data == SHAPES[THIRD]
        assert broken_invariants() == []

    def test_shares_the_bytes_of_its_version_with_others(self, organization, far):
        for _ in range(2):
            create_endpoint(organization, far.url, event_types=["parcel.*"], api_version=FIRST)
        send_parcel(organization)
        deliver()

        assert WebhookBody.objects.count() == 1
        assert far.requests[0].body == far.requests[1].body

    def test_that_moves_on_gets_what_it_was_owed_as_it_was_written(self, organization, far):
        far.answers = [receiver.answer("500 Oh"), receiver.ok()]
        endpoint, _ = create_endpoint(
            organization, far.url, event_types=["parcel.*"], api_version=FIRST
        )
        send_parcel(organization)
        deliver()
        moved = api_of(organization).patch(
            f"{ENDPOINTS}/{encode_id('whe', endpoint.id)}", {"api_version": THIRD}
        )
        assert moved.status_code == 200
        make_due(organization)
        deliver()
        send_parcel(organization, sequence=2)
        deliver()

        failed, retried, later = far.requests
        assert retried.body == failed.body
        assert [body["data"] for body in received(far)] == [
            SHAPES[FIRST],
            SHAPES[FIRST],
            SHAPES[THIRD],
        ]
        assert json.loads(later.body)["sequence"] == 2

    def test_replayed_brings_the_same_bytes(self, organization, far):
        create_endpoint(organization, far.url, event_types=["parcel.*"], api_version=SECOND)
        send_parcel(organization)
        deliver()
        [delivery] = deliveries(organization)
        operations.replay_delivery(
            organization_id=organization.id,
            delivery_id=delivery.id,
            idempotency_key="again",
            reason="",
            actor=TESTS,
            now=clock.now(),
        )
        deliver()

        first, again = far.requests
        assert again.body == first.body
        assert json.loads(again.body)["data"] == SHAPES[SECOND]

    @pytest.mark.parametrize(
        ("key", "pinned"), [(FIRST, FIRST), ("2026-03-01", SECOND), (THIRD, THIRD)]
    )
    def test_is_pinned_to_the_version_of_the_key_that_makes_it(
        self, organization, far, key, pinned
    ):
        made = api_of(organization, version=key).post(
            ENDPOINTS, {"url": far.url, "event_types": ["parcel.*"]}
        )

        assert (made.status_code, made.json()["api_version"]) == (201, pinned)

    def test_cannot_be_pinned_to_what_never_was(self, organization, far):
        refused = api_of(organization).post(
            ENDPOINTS,
            {"url": far.url, "event_types": ["parcel.*"], "api_version": "2026-03-01"},
        )

        assert (refused.status_code, refused.json()["code"]) == (422, "unknown_api_version")


class TestFeed:
    @pytest.mark.parametrize("version", SHAPES)
    def test_answers_in_the_version_of_the_caller(self, organization, version):
        send_parcel(organization)
        lose_parcel(organization)
        api = api_of(organization, version=version)

        answer = api.get("/v1/events?order=asc&type=parcel.sent")

        [event] = answer.json()["data"]
        assert event["data"] == SHAPES[version]
        assert event["api_version"] == answer.headers["Kassa-Version"] == version
        assert api.get(f"/v1/events/{event['id']}").json() == event
        [lost] = api.get("/v1/events?type=parcel.lost").json()["data"]
        assert (lost["data"], lost["api_version"]) == ({"parcel": "p2"}, version)

    @pytest.mark.parametrize("version", SHAPES)
    def test_shows_what_the_webhook_brought(self, organization, far, version):
        create_endpoint(organization, far.url, event_types=["parcel.*"], api_version=version)
        send_parcel(organization)
        deliver()

        api = api_of(organization, version=version)
        [event] = api.get("/v1/events?type=parcel.sent").json()["data"]
        assert received(far) == [event]

    def test_has_one_order_and_one_cursor_for_all_versions(self, organization):
        for sequence in (1, 2, 3):
            send_parcel(organization, sequence=sequence)
        query = "/v1/events?order=asc&type=parcel.sent"
        older, newer = api_of(organization, version=FIRST), api_of(organization)

        begun = older.get(f"{query}&limit=1").json()
        rest = newer.get(f"{query}&after={begun['next']}").json()

        assert [each["sequence"] for each in begun["data"] + rest["data"]] == [1, 2, 3]


class TestSubscription:
    def test_lets_no_other_type_through(self, organization, far):
        create_endpoint(organization, far.url, event_types=["parcel.lost"])
        send_parcel(organization, about="p1")
        lose_parcel(organization, about="p2")
        send_parcel(organization, about="p3")

        assert deliver() == 1
        assert [body["type"] for body in received(far)] == ["parcel.lost"]
        assert [each.event_type for each in deliveries(organization)] == ["parcel.lost"]

    def test_brings_nothing_of_the_time_before_it(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url, event_types=["parcel.lost"])
        whom = {"organization_id": organization.id, "endpoint_id": endpoint.id, "actor": TESTS}
        since = clock.now()
        send_parcel(organization, about="p1")

        operations.update_endpoint(**whom, changes={"event_types": ["parcel.*"]}, now=clock.now())
        operations.replay_failed(
            **whom, since=since, reason="", idempotency_key="again", now=clock.now()
        )
        send_parcel(organization, about="p2")
        deliver()

        assert [body["aggregate"]["id"] for body in received(far)] == ["p2"]

    def test_of_one_type_is_not_of_another_with_the_same_beginning(self, organization, far):
        refused = api_of(organization).post(
            ENDPOINTS, {"url": far.url, "event_types": ["parcel.s*"]}
        )

        assert (refused.status_code, refused.json()["code"]) == (422, "unknown_event_type")


class TestTenancy:
    def test_of_two_that_ask_for_everything_each_gets_its_own(self, organization):
        other = create_organization()
        with Receiver() as mine, Receiver() as theirs:
            create_endpoint(organization, mine.url)
            create_endpoint(other, theirs.url)
            # The same aggregate to look at: its lane key is the same, too.
            for sequence in (1, 2):
                send_parcel(organization, about="p1", sequence=sequence)
            send_parcel(other, about="p1")
            deliver()

            parcels = {
                owner.id: [body for body in received(far) if body["type"] == "parcel.sent"]
                for owner, far in ((organization, mine), (other, theirs))
            }

        for owner, count in ((organization, 2), (other, 1)):
            assert len(parcels[owner.id]) == count
            assert {body["organization_id"] for body in parcels[owner.id]} == {
                encode_id("org", owner.id)
            }
        assert broken_invariants() == []

    def test_shows_nothing_of_another(self, organization, far):
        other = create_organization()
        create_endpoint(other, far.url)
        send_parcel(other)
        deliver()
        mine, theirs = api_of(organization), api_of(other)

        [event] = theirs.get("/v1/events?type=parcel.sent").json()["data"]
        cursor = theirs.get("/v1/events?order=asc&limit=1").json()["next"]
        endpoint = encode_id("whe", WebhookDelivery.objects.get().endpoint_id)
        delivery = encode_id("whd", WebhookDelivery.objects.get().id)

        assert mine.get("/v1/events?type=parcel.sent").json()["data"] == []
        assert (
            mine.get(f"/v1/events?order=asc&after={cursor}&type=parcel.sent").json()["data"] == []
        )
        for path in (
            f"/v1/webhook_deliveries?endpoint={endpoint}",
            f"/v1/events/{event['id']}",
            f"/v1/webhook_endpoints/{endpoint}",
            f"/v1/webhook_deliveries/{delivery}",
            f"/v1/webhook_deliveries/{delivery}/attempts",
        ):
            assert (path, mine.get(path).status_code) == (path, 404)
            assert (path, theirs.get(path).status_code) == (path, 200)

    def test_lets_nobody_act_on_another_s(self, organization, far):
        other = create_organization()
        create_endpoint(other, far.url)
        send_parcel(other)
        deliver()
        [delivery] = deliveries(other)
        endpoint = encode_id("whe", delivery.endpoint_id)
        mine = api_of(organization)

        answers = [
            mine.post(f"/v1/webhook_deliveries/{encode_id('whd', delivery.id)}/replay", {}),
            mine.post(f"{ENDPOINTS}/{endpoint}/replay", {"since": "2026-01-01T00:00:00Z"}),
            mine.post(f"{ENDPOINTS}/{endpoint}/ping", {}),
            mine.post(f"{ENDPOINTS}/{endpoint}/disable", {}),
            mine.post(f"{ENDPOINTS}/{endpoint}/rotate_secret", {}),
            mine.patch(f"{ENDPOINTS}/{endpoint}", {"event_types": ["*"]}),
            mine.send("DELETE", f"{ENDPOINTS}/{endpoint}", None),
        ]

        assert {answer.status_code for answer in answers} == {404}
        assert deliver() == 0
        assert WebhookAttempt.objects.count() == 1
        assert deliveries(other)[0].status == "succeeded"
