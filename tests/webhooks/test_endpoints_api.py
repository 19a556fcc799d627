from __future__ import annotations

import socket
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection
from django.urls import get_resolver
from standardwebhooks import Webhook

from apps.core import clock
from apps.core.actors import Actor
from apps.core.api.caller import declared_scopes
from apps.core.ids import encode_id, new_ids
from apps.core.models import AuditEvent, OutboxEvent
from apps.webhooks import operations
from apps.webhooks.adapters import addresses
from apps.webhooks.errors import EndpointLimitReached, ReplayLimitReached
from apps.webhooks.models import (
    WebhookDelivery,
    WebhookEndpoint,
    WebhookLane,
    WebhookReplay,
    WebhookSecret,
)
from apps.webhooks.operations import EndpointTerms
from apps.webhooks.rules import rendering
from tests.accounts.factories import Api, create_organization, create_staff
from tests.support import past_the_guards, race
from tests.webhooks import receiver
from tests.webhooks.acts import Acts
from tests.webhooks.conftest import broken_invariants
from tests.webhooks.factories import (
    TESTS,
    create_customer,
    create_endpoint,
    deliver,
    deliveries,
    make_due,
    owe,
    relay,
)

# Every scope that a route asks for; complete once the URLs are loaded.
get_resolver().url_patterns  # noqa: B018  (loads them)
ALL = tuple(sorted(declared_scopes()))
PATH = "/v1/webhook_endpoints"


@pytest.fixture
def api(organization):
    return Api(organization, *ALL)


@pytest.fixture
def endpoint(api, far):
    """An endpoint as the API answers it."""
    return api.post(PATH, {"url": far.url, "event_types": ["thing.*"]}).json()


@pytest.fixture
def _inner_name(monkeypatch):
    """A name that leads to a carrier's own network, for whoever resolves it."""
    resolve = socket.getaddrinfo

    def look_up(host, port, **options):
        if host != "inner.example":
            return resolve(host, port, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("100.64.0.1", port))]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", look_up)


class TestCreate:
    def test_shows_the_secret_once(self, api, far):
        made = api.post(PATH, {"url": far.url, "event_types": ["thing.*", "thing.changed"]})

        assert made.status_code == 201
        body = made.json()
        assert body["secret"].startswith("whsec_")
        assert body["url"] == far.url
        assert body["status"] == "enabled"
        assert body["disabled_reason"] is None
        assert body["api_version"] == "2026-11-01"
        read = api.get(f"{PATH}/{body['id']}").json()
        assert read == {name: value for name, value in body.items() if name != "secret"}
        assert api.get(PATH).json()["data"] == [read]
        assert WebhookLane.objects.count() == 4

    def test_stores_the_secret_encrypted_and_says_it_nowhere(self, api, far):
        secret = api.post(PATH, {"url": far.url, "event_types": ["*"]}).json()["secret"]

        raw = secret.removeprefix("whsec_")
        assert raw.encode() not in bytes(WebhookSecret.objects.get().sealed)
        with connection.cursor() as cursor:
            for table in connection.introspection.table_names():
                cursor.execute(
                    f'SELECT count(*) FROM "{table}" AS t WHERE t::text LIKE %s', [f"%{raw}%"]
                )
                assert cursor.fetchone() == (0,), table

    def test_replayed_makes_one_and_keeps_the_secret(self, api, far):
        body = {"url": far.url, "event_types": ["*"]}
        first = api.post(PATH, body, key="same")
        second = api.post(PATH, body, key="same")
        other = api.post(PATH, body | {"description": "x"}, key="same")

        assert second.status_code == 201
        assert second.headers["Idempotent-Replayed"] == "true"
        assert second.json() == first.json() | {"secret": None}
        assert WebhookEndpoint.objects.count() == 1
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert other.json()["resource"] == first.json()["id"]

    def test_in_parallel_with_one_key_makes_one(self, organization, far):
        call = partial(
            operations.create_endpoint,
            organization_id=organization.id,
            terms=EndpointTerms(url=far.url, event_types=["*"]),
            idempotency_key="same",
            actor=TESTS,
            now=clock.now(),
        )
        outcomes = race(*[call] * 4)

        assert len({outcome[0].id for outcome in outcomes}) == 1
        assert sum(outcome[1] is not None for outcome in outcomes) == 1
        assert WebhookEndpoint.objects.count() == 1

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("http://example.com/", "scheme"),
            ("https://169.254.169.254/latest", "host"),
            ("https://[::ffff:169.254.169.254]/", "host"),
            ("https://0x7f000001/", "host"),
            ("https://user:p@host.example/", "userinfo"),
            ("https://host.example:22/", "port"),
            ("http://10.0.0.1/", "host"),
            ("https://name.invalid/", "unresolvable"),
            ("https://inner.example/", "address"),
            # Longer than what is stored once its name is written in ASCII.
            ("https://b\u00fccher.example/" + "a" * 1976, "length"),
        ],
    )
    @pytest.mark.usefixtures("_inner_name")
    def test_refuses_where_no_webhook_goes(self, api, url, reason):
        refused = api.post(PATH, {"url": url, "event_types": ["*"]})

        assert (refused.status_code, refused.json()["code"]) == (422, "webhook_url_refused")
        assert refused.json()["reason"] == reason
        assert WebhookEndpoint.objects.count() == 0

    @pytest.mark.parametrize(
        ("change", "status", "code"),
        [
            ({"event_types": ["nothing.happened"]}, 422, "unknown_event_type"),
            ({"event_types": []}, 400, "invalid_request"),
            ({"max_in_flight": 9}, 400, "invalid_request"),
            ({"max_in_flight": 0}, 400, "invalid_request"),
            ({"event_types": ["thing.changed", "thing.unheard_of"]}, 422, "unknown_event_type"),
            ({"ordering": "global"}, 400, "invalid_request"),
            ({"api_version": "2020-01-01"}, 422, "unknown_api_version"),
            ({"colour": "red"}, 400, "invalid_request"),
            ({"url": 7}, 400, "invalid_request"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, api, far, change, status, code):
        refused = api.post(PATH, {"url": far.url, "event_types": ["*"]} | change)

        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert WebhookEndpoint.objects.count() == 0

    def test_takes_the_scope_to_read_what_it_subscribes_to(self, organization, far):
        key = Api(organization, "webhooks:write", "webhooks:read")

        refused = key.post(PATH, {"url": far.url, "event_types": ["customer.created"]})

        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
        assert refused.json()["required_scope"] == "customers:read"
        assert key.post(PATH, {"url": far.url, "event_types": ["thing.*"]}).status_code == 201

    def test_stops_at_sixteen_also_in_a_race(self, organization, far):
        for _ in range(15):
            create_endpoint(organization, far.url)
        calls = [partial(create_endpoint, organization, far.url) for _ in range(3)]

        outcomes = race(*calls)

        names = sorted(type(outcome).__name__ for outcome in outcomes)
        assert names == ["EndpointLimitReached", "EndpointLimitReached", "tuple"]
        assert WebhookEndpoint.objects.count() == 16
        # One that was taken away leaves its place, and another organization has its own.
        create_endpoint(create_organization(), far.url)
        Acts(WebhookEndpoint.objects.filter(organization=organization).first()).delete()
        create_endpoint(organization, far.url)
        with pytest.raises(EndpointLimitReached):
            create_endpoint(organization, far.url)


class TestOtherTenants:
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", "", None),
            ("PATCH", "", {"description": "mine now"}),
            ("DELETE", "", None),
            ("POST", "/rotate_secret", {}),
            ("POST", "/ping", {}),
            ("POST", "/disable", {}),
            ("POST", "/enable", {"paused": "discard"}),
            ("POST", "/replay", {"since": "2026-11-01T00:00:00Z"}),
        ],
    )
    def test_meet_no_endpoint(self, endpoint, method, path, body):
        stranger = Api(create_organization(), *ALL)
        before = WebhookEndpoint.objects.values().get()

        answer = stranger.send(
            method, f"{PATH}/{endpoint['id']}{path}", body or {}, **{"Idempotency-Key": "k"}
        )

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert WebhookEndpoint.objects.values().get() == before
        assert stranger.get(PATH).json()["data"] == []

    def test_meet_no_delivery_and_no_event(self, organization, endpoint):
        owe(organization, "thing_1")
        stranger = Api(create_organization(), *ALL)
        mine = Api(organization, *ALL)
        [delivery] = mine.get("/v1/webhook_deliveries").json()["data"]

        for path in (
            f"/v1/webhook_deliveries/{delivery['id']}",
            f"/v1/webhook_deliveries/{delivery['id']}/attempts",
            f"/v1/events/{delivery['event']}",
        ):
            assert mine.get(path).status_code == 200
            assert stranger.get(path).status_code == 404
        assert stranger.post(f"/v1/webhook_deliveries/{delivery['id']}/replay").status_code == 404
        listed = f"/v1/webhook_deliveries?endpoint={endpoint['id']}"
        assert stranger.get(listed).status_code == 404
        assert stranger.get("/v1/events").json()["data"] == []

    def test_read_what_a_deleted_endpoint_was_owed_only_if_it_was_theirs(
        self, organization, endpoint
    ):
        owe(organization, "thing_1")
        mine, stranger = Api(organization, *ALL), Api(create_organization(), *ALL)
        assert mine.send("DELETE", f"/v1/webhook_endpoints/{endpoint['id']}", None).status_code == (
            204
        )

        listed = f"/v1/webhook_deliveries?endpoint={endpoint['id']}"

        assert [one["status"] for one in mine.get(listed).json()["data"]] == ["canceled"]
        assert stranger.get(listed).status_code == 404


class TestScopes:
    def test_reading_does_not_allow_writing(self, organization, endpoint, far):
        reader = Api(organization, "webhooks:read")

        assert reader.get(PATH).status_code == 200
        refused = reader.post(PATH, {"url": far.url, "event_types": ["*"]})
        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
        assert reader.get("/v1/events").status_code == 403


class TestChange:
    def test_moves_what_is_named(self, api, endpoint, organization):
        changed = api.patch(
            f"{PATH}/{endpoint['id']}", {"description": "new", "event_types": ["*"]}
        )

        assert changed.status_code == 200
        body = changed.json()
        assert (body["description"], body["event_types"], body["sequence"]) == ("new", ["*"], 2)
        assert OutboxEvent.objects.filter(type="webhook_endpoint.updated").count() == 1
        trail = AuditEvent.objects.get(act="webhooks.update_endpoint")
        assert trail.before["description"] == ""
        assert trail.after["description"] == "new"

    def test_to_the_same_changes_nothing(self, api, endpoint):
        changed = api.patch(f"{PATH}/{endpoint['id']}", {"event_types": ["thing.*"]})

        assert changed.json()["sequence"] == 1

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("https://localhost/", "host"),
            ("https://name.invalid/", "unresolvable"),
            ("https://inner.example/", "address"),
        ],
    )
    @pytest.mark.usefixtures("_inner_name")
    def test_checks_a_new_url_alike(self, api, endpoint, url, reason):
        refused = api.patch(f"{PATH}/{endpoint['id']}", {"url": url})

        assert (refused.status_code, refused.json()["code"]) == (422, "webhook_url_refused")
        assert refused.json()["reason"] == reason
        assert api.get(f"{PATH}/{endpoint['id']}").json()["url"] == endpoint["url"]


class TestKeys:
    @pytest.mark.parametrize(
        ("act", "body"),
        [
            ("rotate_secret", {}),
            ("ping", {}),
            ("disable", {}),
            ("enable", {"paused": "discard"}),
        ],
    )
    def test_of_an_act_name_its_endpoint_to_another_request(self, api, endpoint, act, body):
        if act == "enable":
            api.post(f"{PATH}/{endpoint['id']}/disable", {})
        first = api.post(f"{PATH}/{endpoint['id']}/{act}", body, key="k")

        other = api.post(PATH, {"url": endpoint["url"], "event_types": ["*"]}, key="k")
        again = api.post(f"{PATH}/{endpoint['id']}/{act}", body, key="k")

        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert other.json()["resource"] == endpoint["id"]
        assert again.status_code == first.status_code < 300
        assert again.headers["Idempotent-Replayed"] == "true"

    def test_of_two_rotations_of_one_endpoint_are_two_secrets(self, api, endpoint):
        for key in "ab":
            made = api.post(f"{PATH}/{endpoint['id']}/rotate_secret", {}, key=key)
            assert made.json()["secret"].startswith("whsec_")

        assert WebhookSecret.objects.count() == 3

    def test_of_replays_name_the_delivery_or_the_replay(self, api, organization, endpoint):
        owe(organization, "thing_1")
        WebhookDelivery.objects.update(status="failed", closed_at=clock.now(), attempts=3)
        [delivery] = deliveries(organization)
        one = encode_id("whd", delivery.id)
        since = (clock.now() - timedelta(hours=1)).isoformat()
        api.post(f"/v1/webhook_deliveries/{one}/replay", {}, key="one")
        all_ = api.post(f"{PATH}/{endpoint['id']}/replay", {"since": since}, key="all")

        named = [
            api.post(f"{PATH}/{endpoint['id']}/ping", {}, key=key).json()["resource"]
            for key in ("one", "all")
        ]

        assert named == [one, all_.json()["id"]]


class TestDelete:
    def test_cancels_what_is_open_and_keeps_history(self, api, organization, endpoint, far):
        owe(organization, "thing_1")

        assert api.send("DELETE", f"{PATH}/{endpoint['id']}", None).status_code == 204

        assert api.get(f"{PATH}/{endpoint['id']}").status_code == 404
        assert api.get(PATH).json()["data"] == []
        assert deliver() == 0
        [delivery] = api.get("/v1/webhook_deliveries").json()["data"]
        assert delivery["status"] == "canceled"
        assert far.requests == []
        assert api.post(f"/v1/webhook_deliveries/{delivery['id']}/replay").status_code == 404


class TestRotateSecret:
    def verifies(self, secret, request):
        try:
            Webhook(secret).verify(request.body, request.headers)
        except Exception:  # noqa: BLE001  (the verifier's own)
            return False
        return True

    def test_has_both_sign_until_the_old_one_ends(self, api, organization, endpoint, far):
        path = f"{PATH}/{endpoint['id']}/rotate_secret"
        new = api.post(path, {"overlap_seconds": 3600}).json()["secret"]
        owe(organization, "thing_1")
        deliver()
        WebhookSecret.objects.exclude(expires_at=None).update(expires_at=clock.now())
        owe(organization, "thing_2")
        deliver()

        both, alone = far.requests
        assert both.headers["webhook-signature"].count("v1,") == 2
        assert self.verifies(new, both)
        assert self.verifies(endpoint["secret"], both)
        assert self.verifies(new, alone)
        assert not self.verifies(endpoint["secret"], alone)

    def test_ends_the_old_one_at_once_when_asked(self, api, organization, endpoint, far):
        api.post(f"{PATH}/{endpoint['id']}/rotate_secret", {"overlap_seconds": 0})
        owe(organization, "thing_1")
        deliver()

        assert not self.verifies(endpoint["secret"], far.requests[0])

    def test_stops_at_three_and_replays_once(self, api, endpoint):
        path = f"{PATH}/{endpoint['id']}/rotate_secret"
        first = api.post(path, {}, key="one")
        again = api.post(path, {}, key="one")
        api.post(path, {})
        refused = api.post(path, {})

        assert first.json()["secret"]
        assert again.json()["secret"] is None
        assert (refused.status_code, refused.json()["code"]) == (422, "secret_limit_reached")
        assert WebhookSecret.objects.count() == 3
        assert api.post(path, {"overlap_seconds": 604_801}).status_code == 400


class TestPing:
    def test_reaches_that_endpoint_only(self, api, organization, endpoint, far):
        create_endpoint(organization, far.url)
        relay()
        deliver()
        before = len(far.requests)

        assert api.post(f"{PATH}/{endpoint['id']}/ping", {}, key="p").status_code == 202
        assert api.post(f"{PATH}/{endpoint['id']}/ping", {}, key="p").status_code == 202
        relay()
        deliver()

        assert len(far.requests) == before + 1
        body = Webhook(endpoint["secret"]).verify(far.requests[-1].body, far.requests[-1].headers)
        assert body["type"] == "webhook.ping"

    def test_is_refused_while_it_is_off(self, api, endpoint):
        api.post(f"{PATH}/{endpoint['id']}/disable", {})

        refused = api.post(f"{PATH}/{endpoint['id']}/ping", {})

        assert (refused.status_code, refused.json()["code"]) == (409, "endpoint_disabled")


class TestDisableAndEnable:
    def off(self, api, endpoint):
        return api.post(f"{PATH}/{endpoint['id']}/disable", {"reason": "upkeep"})

    def on(self, api, endpoint, **how):
        return api.post(f"{PATH}/{endpoint['id']}/enable", how)

    def test_keep_and_resume_what_came_meanwhile(self, api, organization, endpoint, far):
        owe(organization, "thing_1")
        off = self.off(api, endpoint).json()
        owe(organization, "thing_2")

        assert (off["status"], off["disabled_reason"]) == ("disabled", "requested")
        assert deliver() == 0
        assert self.on(api, endpoint, paused="resume").json()["status"] == "enabled"
        assert deliver() == 2
        assert broken_invariants() == []

    def test_resume_since_an_instant_and_cancel_the_rest(self, api, organization, endpoint, far):
        self.off(api, endpoint)
        owe(organization, "thing_1")
        since = clock.now().isoformat()
        owe(organization, "thing_2")
        self.on(api, endpoint, paused="resume_since", since=since)
        deliver()

        assert [each.status for each in deliveries(organization)] == ["canceled", "succeeded"]

    def test_discard(self, api, organization, endpoint, far):
        self.off(api, endpoint)
        owe(organization, "thing_1")
        self.on(api, endpoint, paused="discard")

        assert deliver() == 0
        assert deliveries(organization)[0].status == "canceled"

    def test_refuse_what_is_so_already(self, api, endpoint):
        refused = self.on(api, endpoint, paused="resume")
        assert (refused.status_code, refused.json()["code"]) == (409, "endpoint_enabled")
        self.off(api, endpoint)
        refused = self.off(api, endpoint)
        assert (refused.status_code, refused.json()["code"]) == (409, "endpoint_disabled")
        assert self.on(api, endpoint, paused="resume_since").status_code == 400
        assert self.on(api, endpoint).status_code == 400


def replay_failed(organization, *, now, idempotency_key):
    return operations.replay_failed(
        organization_id=organization.id,
        endpoint_id=WebhookEndpoint.objects.get().id,
        since=now - timedelta(hours=1),
        reason="it was down",
        idempotency_key=idempotency_key,
        actor=TESTS,
        now=now,
    )


class TestReplay:
    def exhausted(self, organization, far):
        far.answers = [receiver.answer("500 Oh")]
        owe(organization, "thing_1", "thing_2")
        WebhookDelivery.objects.update(attempts=9)
        make_due(organization)
        deliver()
        far.answers = [receiver.ok()]
        far.requests.clear()

    def test_sends_the_same_id_and_body_again(self, api, organization, endpoint, far):
        owe(organization, "thing_1")
        deliver()
        [delivery] = api.get("/v1/webhook_deliveries").json()["data"]
        path = f"/v1/webhook_deliveries/{delivery['id']}"

        asked = api.post(f"{path}/replay", {"reason": "lost it"})
        deliver()

        assert (asked.status_code, asked.json()["status"]) == (202, "pending")
        first, second = far.requests
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.body == second.body
        assert [each["number"] for each in api.get(f"{path}/attempts").json()["data"]] == [2, 1]
        assert broken_invariants() == []

    def test_clicked_twice_within_a_minute_sends_once(self, api, organization, endpoint, far):
        owe(organization, "thing_1")
        deliver()
        [delivery] = deliveries(organization)
        now = clock.now().replace(second=10)
        calls = [
            partial(
                operations.replay_delivery,
                organization_id=organization.id,
                delivery_id=delivery.id,
                reason="",
                idempotency_key=key,
                actor=TESTS,
                now=now,
            )
            for key in "abc"
        ]
        race(*calls)
        deliver()
        calls[0]()
        deliver()

        assert len(far.requests) == 2

    def test_of_all_asked_for_by_a_second_key_is_the_first_one_again_and_again(
        self, organization, endpoint
    ):
        ask = partial(
            operations.replay_failed,
            organization_id=organization.id,
            endpoint_id=WebhookEndpoint.objects.get().id,
            since=clock.now() - timedelta(hours=1),
            reason="",
            actor=TESTS,
            now=clock.now().replace(second=10),
        )
        first = ask(idempotency_key="a")
        second = ask(idempotency_key="b")

        # The second click's answer was lost, and its client asks again with its own key.
        again = ask(idempotency_key="b")

        assert first.id == second.id == again.id
        assert WebhookReplay.objects.count() == 1

    def test_is_refused_while_the_delivery_is_open(self, api, organization, endpoint):
        owe(organization, "thing_1")
        [delivery] = api.get("/v1/webhook_deliveries").json()["data"]

        refused = api.post(f"/v1/webhook_deliveries/{delivery['id']}/replay", {})

        assert (refused.status_code, refused.json()["code"]) == (409, "delivery_still_open")

    def test_of_all_that_failed_gives_them_a_new_budget(self, api, organization, endpoint, far):
        self.exhausted(organization, far)
        since = (clock.now() - timedelta(hours=1)).isoformat()

        asked = api.post(f"{PATH}/{endpoint['id']}/replay", {"since": since})

        assert (asked.status_code, asked.json()["delivery_count"]) == (202, 2)
        assert deliver() == 2
        assert {each.status for each in deliveries(organization)} == {"succeeded"}
        assert {each.attempts for each in deliveries(organization)} == {1}

    def test_of_all_that_failed_twice_within_a_minute_is_one(self, organization, endpoint, far):
        self.exhausted(organization, far)
        now = clock.now().replace(second=5)

        replays = race(
            *(
                partial(replay_failed, organization, now=now, idempotency_key=f"replay-{number}")
                for number in range(3)
            )
        )

        assert len({replay.id for replay in replays}) == 1
        assert {replay.delivery_count for replay in replays} == {2}
        assert WebhookReplay.objects.count() == 1
        far.requests.clear()
        assert deliver() == len(far.requests) == 2

    def test_leaves_out_what_succeeded_since(self, api, organization, endpoint, far):
        self.exhausted(organization, far)
        mended, _ = deliveries(organization)
        api.post(f"/v1/webhook_deliveries/{encode_id('whd', mended.id)}/replay", {})
        assert deliver() == 1
        far.requests.clear()

        replay = replay_failed(organization, now=clock.now(), idempotency_key="replay")

        assert replay.delivery_count == 1
        assert deliver() == 1
        assert encode_id("evt", mended.event_id) not in far.ids()

    def test_sends_ten_thousand_at_most_and_the_rest_when_asked_again(self, organization, endpoint):
        row = WebhookEndpoint.objects.get()
        made = WebhookDelivery.objects.bulk_create(
            WebhookDelivery(
                organization=organization,
                endpoint=row,
                event_id=event_id,
                event_type="thing.changed",
                aggregate_id="thing_1",
                sequence=1,
                api_version=rendering.VERSIONS[0],
                lane_key=0,
                lane=0,
                status="failed",
                closed_at=clock.now(),
            )
            for event_id in new_ids(10_001)
        )
        now = clock.now()

        first = replay_failed(organization, now=now, idempotency_key="first")

        assert first.delivery_count == 10_000
        [left] = deliveries(organization, status="failed")
        assert left.id == max(each.id for each in made)
        later = now + timedelta(minutes=1)
        second = replay_failed(organization, now=later, idempotency_key="second")
        assert second.delivery_count == 1
        assert deliveries(organization, status="failed") == []

    def test_has_a_limit_of_its_own_each_minute(self, api, organization, endpoint, far):
        owe(organization, "thing_1", "thing_2")
        deliver()
        row = WebhookEndpoint.objects.get()
        now = clock.now().replace(second=45)
        WebhookReplay.objects.bulk_create(
            WebhookReplay(
                organization=organization,
                endpoint=row,
                scope=f"another {number}",
                minute=now.replace(second=0, microsecond=0),
                delivery_count=1,
                requested_by="job:tests",
                created_at=now,
            )
            for number in range(59)
        )
        far.requests.clear()
        calls = [
            partial(
                operations.replay_delivery,
                organization_id=organization.id,
                delivery_id=delivery.id,
                reason="",
                idempotency_key=f"replay-{delivery.id}",
                actor=TESTS,
            )
            for delivery in deliveries(organization)
        ]

        outcomes = race(*(partial(call, now=now) for call in calls))
        deliver()

        assert sorted(type(one).__name__ for one in outcomes) == [
            "ReplayLimitReached",
            "WebhookDelivery",
        ]
        [refused] = [one for one in outcomes if isinstance(one, ReplayLimitReached)]
        assert refused.details == {"limit": 60, "retry_after": 15}
        assert len(far.requests) == 1
        assert {each.status for each in deliveries(organization)} == {"succeeded"}
        # The key is as new, and the next minute another one: both have been sent again then.
        for call in calls:
            call(now=now + timedelta(seconds=15))
        deliver()
        assert len(far.requests) == 2
        assert WebhookReplay.objects.count() == 61

    def test_beyond_its_limit_is_told_when_to_ask_again(self, api, organization, endpoint):
        now = clock.now()
        WebhookReplay.objects.bulk_create(
            WebhookReplay(
                organization=organization,
                endpoint=WebhookEndpoint.objects.get(),
                scope=f"another {number}",
                # This minute and the next: the request may come in either.
                minute=now.replace(second=0, microsecond=0) + timedelta(minutes=minute),
                delivery_count=1,
                requested_by="job:tests",
                created_at=now,
            )
            for number in range(60)
            for minute in (0, 1)
        )

        refused = api.post(
            f"{PATH}/{endpoint['id']}/replay", {"since": (now - timedelta(hours=1)).isoformat()}
        )

        assert (refused.status_code, refused.json()["code"]) == (429, "replay_limit_reached")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60

    def test_by_one_of_staff_is_made_ten_times_an_hour(self, organization, endpoint, far):
        owe(organization, *[f"thing_{number}" for number in range(12)])
        deliver()
        far.requests.clear()
        now = clock.now()
        one, other = (Actor.staff(create_staff("support").pk) for _ in range(2))
        calls = [
            partial(
                operations.replay_delivery,
                organization_id=organization.id,
                delivery_id=delivery.id,
                reason="They asked.",
                idempotency_key=f"replay-{delivery.id}",
            )
            for delivery in deliveries(organization)
        ]

        for call in calls[:10]:
            call(actor=one, now=now)
        with pytest.raises(ReplayLimitReached) as refused:
            calls[10](actor=one, now=clock.now())

        # Nothing was sent or kept of it. A click again is no other replay, and others may.
        assert refused.value.details["limit"] == 10
        assert 3500 < refused.value.details["retry_after"] <= 3600
        assert WebhookReplay.objects.count() == 10
        calls[0](actor=one, now=now)
        calls[11](actor=other, now=now)
        assert (deliver(), len(far.requests)) == (11, 11)
        # An hour later it is another hour, for the same key as well.
        calls[10](actor=one, now=clock.now() + timedelta(hours=1, seconds=1))
        assert WebhookReplay.objects.count() == 12

    def test_reaches_back_a_fortnight(self, api, endpoint):
        since = (clock.now() - timedelta(days=15)).isoformat()

        refused = api.post(f"{PATH}/{endpoint['id']}/replay", {"since": since})

        assert (refused.status_code, refused.json()["code"]) == (422, "replay_too_old")


class TestDeliveryList:
    def test_narrows(self, api, organization, endpoint):
        owe(organization, "thing_1")
        deliver()
        owe(organization, "thing_2")
        event = api.get("/v1/webhook_deliveries?status=pending").json()["data"][0]["event"]

        def count(query):
            return len(api.get(f"/v1/webhook_deliveries?{query}").json()["data"])

        assert count("status=succeeded") == 1
        assert count(f"event={event}") == 1
        assert count(f"endpoint={endpoint['id']}") == 2
        assert count("created_before=2026-01-01T00:00:00Z") == 0
        assert count("created_before=2100-01-01T00:00:00Z") == 2
        assert count("created_from=2026-01-01T00:00:00Z") == 2
        assert count("created_from=2100-01-01T00:00:00Z") == 0
        assert api.get("/v1/webhook_deliveries?status=lost").status_code == 400
        assert api.get("/v1/webhook_deliveries?colour=red").status_code == 400


class TestEventFeed:
    def test_is_followed_without_loss_or_repetition(self, api, organization):
        for number in range(7):
            owe(organization, f"thing_{number}", f"other_{number}")

        followed, cursor = [], None
        while True:
            after = f"&after={cursor}" if cursor else ""
            page = api.get(f"/v1/events?order=asc&limit=3&type=thing.changed{after}").json()
            followed += [each["aggregate"]["id"] for each in page["data"]]
            cursor = page["next"]
            if not page["has_more"]:
                break

        assert followed == [f"{noun}_{n}" for n in range(7) for noun in ("thing", "other")]
        assert api.get(f"/v1/events?order=asc&after={cursor}").json()["data"] == []
        owe(organization, "late_1")
        late = api.get(f"/v1/events?order=asc&after={cursor}").json()["data"]
        assert [each["aggregate"]["id"] for each in late] == ["late_1"]
        newest = api.get("/v1/events?limit=1").json()["data"]
        assert newest == late
        assert api.get(f"/v1/events/{late[0]['id']}").json() == late[0]

    @staticmethod
    def drop_until(position):
        """What goes when a week is over: the oldest batches, and their events."""
        past_the_guards(
            "DELETE FROM core_outbox_event WHERE batch_id IN"
            f" (SELECT id FROM core_outbox_batch WHERE position <= {position})",
            f"DELETE FROM core_outbox_batch WHERE position <= {position}",
            f"UPDATE core_feed_head SET dropped_position = {position}, kept_since = now()",
        )

    @staticmethod
    def follow(api, cursor=None, limit=100):
        after = f"&after={cursor}" if cursor else ""
        return api.get(f"/v1/events?order=asc&type=thing.changed&limit={limit}{after}")

    def test_tells_a_follower_that_what_it_has_not_seen_is_gone(self, api, organization):
        for number in range(4):
            owe(organization, f"thing_{number}")
        first = self.follow(api, limit=1).json()["next"]
        second = self.follow(api, first, limit=1).json()["next"]

        self.drop_until(2)

        expired = self.follow(api, first)
        assert (expired.status_code, expired.json()["code"]) == (422, "cursor_expired")
        kept = ["thing_2", "thing_3"]
        for page in (self.follow(api, second), self.follow(api)):
            assert [each["aggregate"]["id"] for each in page.json()["data"]] == kept

    def test_tells_who_stopped_within_a_batch_that_its_rest_is_gone(self, api, organization):
        owe(organization, "thing_0", "thing_1")
        owe(organization, "thing_2")
        cursor = self.follow(api, limit=1).json()["next"]
        assert self.follow(api, cursor).json()["data"][0]["aggregate"]["id"] == "thing_1"

        self.drop_until(1)

        assert self.follow(api, cursor).json()["code"] == "cursor_expired"

    def test_goes_on_for_whoever_has_seen_everything_however_long_ago(self, api, organization):
        owe(organization, "thing_0", "thing_1")
        cursor = self.follow(api).json()["next"]

        self.drop_until(1)

        idle = self.follow(api, cursor).json()
        assert (idle["data"], idle["next"]) == ([], cursor)
        owe(organization, "thing_2")
        [late] = self.follow(api, cursor).json()["data"]
        assert late["aggregate"]["id"] == "thing_2"

    def test_goes_back_no_further_than_what_is_kept(self, api, organization):
        for number in range(3):
            owe(organization, f"thing_{number}", f"other_{number}")
        whole, cursor = [], ""
        while page := api.get(f"/v1/events?limit=1{cursor}").json()["data"]:
            whole += [each["aggregate"]["id"] for each in page]
            cursor = "&after=" + api.get(f"/v1/events?limit=1{cursor}").json()["next"]
        assert whole == [f"{noun}_{n}" for n in (2, 1, 0) for noun in ("other", "thing")]

        self.drop_until(2)

        expired = api.get(f"/v1/events?limit=1{cursor}")
        assert (expired.status_code, expired.json()["code"]) == (422, "cursor_expired")

    def test_shows_only_what_the_key_may_read(self, organization):
        create_customer(organization)
        relay()
        full, narrow = Api(organization, *ALL), Api(organization, "events:read")

        [event] = full.get("/v1/events?type=customer.created").json()["data"]
        assert narrow.get("/v1/events").json()["data"] == []
        assert narrow.get(f"/v1/events/{event['id']}").status_code == 404

    @pytest.mark.parametrize("query", ["after=x", "after=////", "limit=0", "order=up", "x=1"])
    def test_refuses_what_it_does_not_know(self, api, query):
        assert api.get(f"/v1/events?{query}").status_code == 400
