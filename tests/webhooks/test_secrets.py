"""Secrets of endpoints: how they are made, which of them sign, in which order, and until when."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from standardwebhooks import Webhook

from apps.core import clock
from apps.core.ids import encode_id
from apps.webhooks import operations
from apps.webhooks.models import WebhookSecret
from tests.accounts.factories import Api
from tests.support import race
from tests.webhooks.acts import Acts
from tests.webhooks.factories import TESTS, create_endpoint, deliver, owe
from tests.webhooks.test_endpoints_api import ALL


@pytest.fixture
def made(organization, far):
    """An endpoint, and its first secret."""
    return create_endpoint(organization, far.url, event_types=["thing.*"])


@pytest.fixture
def rotate(organization, made):
    """Ask over the API for another secret of the endpoint."""
    api = Api(organization, *ALL)
    path = f"/v1/webhook_endpoints/{encode_id('whe', made[0].id)}/rotate_secret"
    return lambda **asked: api.post(path, asked)


def signature_of(secret, request):
    """The signature that the standard's own package makes under this secret."""
    at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
    return Webhook(secret).sign(request.headers["webhook-id"], at, request.body.decode())


class TestSecret:
    def test_is_thirty_two_bytes_that_nobody_else_has(self, organization, far, made, rotate):
        _, other = create_endpoint(organization, far.url)
        secrets = [made[1], other, rotate().json()["secret"]]

        keys = {base64.b64decode(each.removeprefix("whsec_"), validate=True) for each in secrets}

        assert all(each.startswith("whsec_") for each in secrets)
        assert [len(key) for key in keys] == [32, 32, 32]


class TestOverlap:
    @pytest.mark.parametrize(
        ("asked", "seconds"),
        [
            ({}, 86_400),
            ({"overlap_seconds": 0}, 0),
            ({"overlap_seconds": 3_600}, 3_600),
            ({"overlap_seconds": 604_800}, 604_800),
        ],
    )
    def test_is_a_day_unless_another_is_asked_for(self, rotate, asked, seconds):
        before = clock.now()

        assert rotate(**asked).status_code == 200

        old, new = WebhookSecret.objects.order_by("id")
        assert before <= old.expires_at - timedelta(seconds=seconds) <= clock.now()
        assert new.expires_at is None

    @pytest.mark.parametrize("seconds", [-1, 604_801, 1.5, "60", True])
    def test_is_of_seven_days_at_most(self, rotate, seconds):
        assert rotate(overlap_seconds=seconds).status_code == 400

        assert WebhookSecret.objects.get().expires_at is None

    def test_that_was_given_is_not_made_longer_by_another_secret(self, rotate):
        rotate(overlap_seconds=60)
        first = WebhookSecret.objects.order_by("id").first()

        rotate(overlap_seconds=3_600)

        assert WebhookSecret.objects.get(id=first.id).expires_at == first.expires_at


class TestSigning:
    def test_is_under_each_of_them_the_newest_first(self, organization, far, made, rotate):
        secrets = [made[1], rotate().json()["secret"], rotate().json()["secret"]]
        owe(organization, "thing_1")
        deliver()

        [request] = far.requests
        signatures = request.headers["webhook-signature"].split()
        assert signatures == [signature_of(each, request) for each in reversed(secrets)]


class TestLimit:
    def test_of_three_holds_for_those_who_ask_at_once(self, organization, made, rotate):
        rotate()
        calls = [
            partial(
                operations.rotate_secret,
                organization_id=organization.id,
                endpoint_id=made[0].id,
                overlap_seconds=60,
                idempotency_key=f"rotate-{number}",
                actor=TESTS,
                now=clock.now(),
            )
            for number in range(3)
        ]

        outcomes = race(*calls)

        names = sorted(type(outcome).__name__ for outcome in outcomes)
        assert names == ["SecretLimitReached", "SecretLimitReached", "tuple"]
        assert WebhookSecret.objects.count() == 3
        assert WebhookSecret.objects.filter(expires_at=None).count() == 1

    def test_is_of_those_that_have_not_expired(self, rotate):
        rotate()
        rotate()
        assert rotate().json()["code"] == "secret_limit_reached"
        oldest = WebhookSecret.objects.order_by("id").first()
        WebhookSecret.objects.filter(id=oldest.id).update(expires_at=clock.now())

        assert rotate().status_code == 200


class TestEnd:
    def test_is_that_of_the_endpoint(self, made, rotate):
        rotate()

        Acts(made[0]).delete()

        assert all(each.expires_at <= clock.now() for each in WebhookSecret.objects.all())
