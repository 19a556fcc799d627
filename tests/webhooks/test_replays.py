"""What is sent again: which deliveries, the same bytes at another time, by whom, and kept how."""

from __future__ import annotations

from datetime import timedelta

import pytest
from standardwebhooks import Webhook

from apps.core import clock
from apps.core.ids import encode_id
from apps.core.models import AuditEvent
from apps.webhooks.models import WebhookDelivery, WebhookReplay
from apps.webhooks.operations import LaneWork
from tests.accounts.factories import Api, create_organization
from tests.webhooks.acts import Acts
from tests.webhooks.factories import (
    create_customer,
    create_endpoint,
    deliver,
    deliveries,
    owe,
    relay,
)
from tests.webhooks.test_endpoints_api import ALL

DELIVERIES = "/v1/webhook_deliveries"


@pytest.fixture
def api(organization):
    return Api(organization, *ALL)


@pytest.fixture
def made(organization, far):
    """An endpoint, and its secret."""
    return create_endpoint(organization, far.url, event_types=["thing.*", "customer.*"])


@pytest.fixture
def endpoint(made):
    return made[0]


def path_of(delivery):
    return f"{DELIVERIES}/{encode_id('whd', delivery.id)}/replay"


def all_of(endpoint):
    return f"/v1/webhook_endpoints/{encode_id('whe', endpoint.id)}/replay"


def close(status, **which):
    """End what is open, as it is said."""
    WebhookDelivery.objects.filter(status="pending", **which).update(
        status=status, closed_at=clock.now(), attempts=3
    )


class TestOne:
    @pytest.mark.parametrize("status", ["succeeded", "failed", "canceled"])
    def test_that_has_ended_in_any_way_is_the_same_row_with_a_new_budget(
        self, api, organization, far, endpoint, status
    ):
        owe(organization, "thing_1")
        close(status)
        [ended] = deliveries(organization)

        assert api.post(path_of(ended), {}).status_code == 202

        [row] = deliveries(organization)
        assert (row.id, row.status, row.attempts, row.closed_at) == (ended.id, "pending", 0, None)
        assert deliver() == 1
        assert far.ids() == [encode_id("evt", ended.event_id)]
        assert deliveries(organization)[0].status == "succeeded"

    def test_is_signed_anew_over_the_same_id_and_body(
        self, api, organization, far, made, monkeypatch
    ):
        owe(organization, "thing_1")
        deliver()
        api.post(path_of(deliveries(organization)[0]), {})
        now = LaneWork.now
        monkeypatch.setattr(LaneWork, "now", lambda owed: now(owed) + timedelta(seconds=100))

        deliver()

        first, second = far.requests
        assert (first.headers["webhook-id"], first.body) == (
            second.headers["webhook-id"],
            second.body,
        )
        times = [int(each.headers["webhook-timestamp"]) for each in far.requests]
        assert 100 <= times[1] - times[0] < 200
        Webhook(made[1]).verify(second.body, second.headers)

    def test_is_in_the_audit_trail_with_its_reason(self, api, organization, endpoint):
        owe(organization, "thing_1")
        close("failed")
        [ended] = deliveries(organization)

        api.post(path_of(ended), {"reason": "They lost it."})

        row = AuditEvent.objects.get(act="webhooks.replay")
        assert (row.subject_id, row.reason) == (str(endpoint.id), "They lost it.")
        assert row.after == {"scope": encode_id("whd", ended.id), "n": 1}

    def test_is_not_shown_to_a_key_that_repeats_what_another_asked(
        self, api, organization, endpoint
    ):
        create_customer(organization)
        relay()
        close("failed")
        [ended] = deliveries(organization)
        narrow = Api(organization, "webhooks:read", "webhooks:write")

        first = api.post(path_of(ended), {}, key="same")
        again = narrow.post(path_of(ended), {}, key="same")

        assert (first.status_code, again.status_code) == (202, 404)
        assert again.json()["code"] == "not_found"


class TestAllThatFailed:
    def test_is_of_that_endpoint_and_was_made_then_or_later(self, api, organization, far, endpoint):
        other, stranger = create_endpoint(organization, far.url)[0], create_organization()
        create_endpoint(stranger, far.url)
        owe(organization, "thing_1", "thing_2", "thing_3", "thing_4")
        owe(stranger, "thing_1")
        # One that never failed is left alone as well.
        close("canceled", endpoint=endpoint, aggregate_id="thing_4")
        close("failed")
        since = clock.now() - timedelta(hours=1)
        for aggregate, at in (
            ("thing_1", since - timedelta(microseconds=1)),
            ("thing_2", since),
            ("thing_3", clock.now()),
        ):
            WebhookDelivery.objects.filter(aggregate_id=aggregate).update(created_at=at)

        asked = api.post(all_of(endpoint), {"since": since.isoformat(), "reason": "Back."})

        assert asked.json()["delivery_count"] == 2
        sent = WebhookDelivery.objects.filter(status="pending")
        assert {(each.endpoint_id, each.aggregate_id) for each in sent} == {
            (endpoint.id, "thing_2"),
            (endpoint.id, "thing_3"),
        }
        assert {each.status for each in deliveries(organization, endpoint=other)} == {"failed"}
        row = AuditEvent.objects.get(act="webhooks.replay")
        assert (row.reason, row.after["n"]) == ("Back.", 2)
        assert deliver() == 2

    @pytest.mark.parametrize(
        ("ago", "status"),
        [(timedelta(days=14, seconds=-60), 202), (timedelta(days=14, seconds=1), 422)],
    )
    def test_reaches_back_a_fortnight_and_no_further(self, api, endpoint, ago, status):
        asked = api.post(all_of(endpoint), {"since": (clock.now() - ago).isoformat()})

        assert asked.status_code == status


class TestWhileItIsOff:
    def test_nothing_is_sent_again(self, api, organization, far, endpoint):
        owe(organization, "thing_1")
        close("failed")
        Acts(endpoint).disable()
        since = (clock.now() - timedelta(hours=1)).isoformat()

        answers = [
            api.post(path_of(deliveries(organization)[0]), {}),
            api.post(all_of(endpoint), {"since": since}),
        ]

        assert {(each.status_code, each.json()["code"]) for each in answers} == {
            (409, "endpoint_disabled")
        }
        assert deliveries(organization)[0].status == "failed"
        assert WebhookReplay.objects.count() == 0
        assert deliver() == 0
