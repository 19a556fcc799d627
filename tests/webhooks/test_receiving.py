"""What clients are told to do with webhooks (docs/webhooks.md), done; and its numbers are ours."""

from __future__ import annotations

import re
import time

import pytest
from django.conf import settings

from apps.core import clock
from apps.webhooks import operations
from apps.webhooks.adapters import sender
from apps.webhooks.operations import _endpoints, _replays
from apps.webhooks.rules import retries, signing
from tests.webhooks.acts import Acts
from tests.webhooks.factories import create_endpoint, deliver, owe


@pytest.fixture(scope="module")
def page():
    return (settings.BASE_DIR / "docs" / "webhooks.md").read_text()


@pytest.fixture(scope="module")
def is_genuine(page):
    """The page's own receiver."""
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {}
    exec(code, names)  # noqa: S102  (ours)
    return names["is_genuine"]


def said(seconds):
    """Return a time as the page has it."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"


class TestReceiver:
    @pytest.fixture
    def sent(self, organization, far):
        """What a receiver got, and the endpoint's secret."""
        _, secret = create_endpoint(organization, far.url, event_types=["thing.*"])
        owe(organization, "thing_1", text="\u00e9 \u20ac")
        deliver()
        return far.requests[0], secret

    def test_believes_what_it_is_sent(self, sent, is_genuine):
        request, secret = sent

        assert is_genuine(secret, request.headers, request.body)

    def test_believes_either_secret_while_one_is_replaced(self, organization, far, is_genuine):
        endpoint, secret = create_endpoint(organization, far.url, event_types=["thing.*"])
        acts = Acts(endpoint)
        _, newer = operations.rotate_secret(
            **acts.key, **acts.by, overlap_seconds=60, idempotency_key="k", now=clock.now()
        )
        owe(organization, "thing_1")
        deliver()

        [request] = far.requests
        assert is_genuine(secret, request.headers, request.body)
        assert is_genuine(newer, request.headers, request.body)

    @pytest.mark.parametrize(
        "change",
        [
            {"webhook-id": "evt_another"},
            {"webhook-timestamp": "soon"},
            {"webhook-signature": "v1,AAAA v1a,AAAA \u00e9"},
            {"webhook-signature": ""},
        ],
    )
    def test_believes_nothing_else(self, sent, is_genuine, change):
        request, secret = sent
        other = signing.write_secret(b"x" * 32)

        assert not is_genuine(secret, request.headers | change, request.body)
        assert not is_genuine(secret, request.headers, request.body + b" ")
        assert not is_genuine(other, request.headers, request.body)

    @pytest.mark.parametrize(("seconds", "believed"), [(290, True), (310, False)])
    @pytest.mark.parametrize("way", [1, -1])
    def test_believes_it_for_five_minutes(self, is_genuine, seconds, believed, way):
        secret, body = signing.write_secret(b"x" * 32), b"{}"
        at = int(time.time()) + way * seconds
        signature = signing.sign(secrets=[secret], message_id="evt_1", timestamp=at, body=body)
        headers = {
            "webhook-id": "evt_1",
            "webhook-timestamp": str(at),
            "webhook-signature": signature,
        }

        assert is_genuine(secret, headers, body) is believed


class TestNumbers:
    def test_of_the_page_are_those_of_the_code(self, page):
        delays = ", ".join(said(seconds) for seconds in retries.DELAYS_SECONDS)
        after_hours = retries.DISABLE_AFTER.total_seconds() / 3600
        unreached = f"{said(retries.CIRCUIT_SECONDS_MIN)}, then for longer, up to "

        for text in (
            f"send again {delays} after the attempt before",
            f"Answer 2xx within {sender.ATTEMPT_SECONDS_MAX:g} seconds",
            f"or not within {said(sender.ATTEMPT_SECONDS_MAX)}",
            f"after {retries.ATTEMPTS_MAX} attempts",
            unreached + said(retries.CIRCUIT_SECONDS_MAX),
            f"{after_hours:g} hours, of {retries.DISABLE_EVENTS_MIN} events or more",
            f"in the last {_replays.REACH_MAX.days} days",
        ):
            assert text in page
        # In words.
        assert retries.JITTER == 1 / 5
        assert retries.BUSY_DELAY_SECONDS_MIN == 60
        assert retries.CIRCUIT_FAILURES == 5
        assert (_endpoints.SECRETS_MAX, _endpoints.OVERLAP_SECONDS_DEFAULT) == (3, 86_400)
        assert sender.HEAD_BYTES_MAX == 2048
