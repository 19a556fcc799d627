"""Endpoints as staff see them: how they answer, what is owed to them, and the acts on them."""

from datetime import timedelta

import pytest

from apps.core import clock
from apps.core.ids import new_id
from apps.core.models import AuditEvent, OutboxEvent
from apps.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from apps.webhooks.rules.retries import Outcome
from tests.backoffice.test_acts import REASON, open_form, perform, url_of


@pytest.fixture
def endpoint(house, db):
    """Return the endpoint that does not answer."""
    return WebhookEndpoint.objects.get(organization_id=house.id, description="Old accounting")


def shown(browse, row):
    return browse("liam").get(url_of(row)).content.decode()


class TestHealth:
    def test_says_until_when_the_circuit_is_open(self, browse, endpoint):
        until = clock.now() + timedelta(minutes=3)
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(circuit_open_until=until)

        text = shown(browse, endpoint)

        assert "open until" in text
        assert f"{until:%Y-%m-%d %H:%M:%S} UTC" in text

    def test_says_that_the_circuit_is_closed(self, browse, endpoint):
        assert "<dt>Circuit</dt><dd>closed</dd>" in shown(browse, endpoint)

    def test_says_since_when_the_oldest_delivery_has_been_due(self, browse, endpoint):
        pending = WebhookDelivery.objects.filter(endpoint=endpoint, status="pending")
        pending.update(next_attempt_at=clock.now() + timedelta(hours=1))
        first = pending.first()
        assert '<dt>Oldest due</dt><dd><span class="k-none">' in shown(browse, endpoint)

        WebhookDelivery.objects.filter(pk=first.pk).update(
            next_attempt_at=clock.now() - timedelta(minutes=25)
        )

        assert ">25 min</span>" in shown(browse, endpoint)


class TestAnAnswer:
    def test_is_shown_escaped_whatever_the_other_side_said(self, browse, endpoint):
        delivery = WebhookDelivery.objects.filter(endpoint=endpoint).first()
        WebhookAttempt.objects.create(
            id=new_id(),
            organization_id=endpoint.organization_id,
            delivery=delivery,
            endpoint=endpoint,
            number=99,
            started_at=clock.now(),
            duration_ms=12,
            outcome=Outcome.SERVER_ERROR,
            status_code=500,
            answer_head="<script>alert(1)</script><img src=x onerror=alert(2)>",
        )

        text = shown(browse, delivery)

        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert "<script>alert(1)" not in text
        assert "<img src=x" not in text


class TestPausing:
    def test_switches_the_endpoint_off_with_the_reason(self, browse, house, endpoint):
        answer = perform(browse("sofia"), endpoint, "pause")

        endpoint.refresh_from_db()
        assert answer.status_code == 302
        assert (endpoint.status, endpoint.disabled_reason) == ("disabled", "requested")
        assert not WebhookDelivery.objects.filter(endpoint=endpoint, status="pending").exists()
        trail = AuditEvent.objects.get(subject_id=str(endpoint.pk), reason=REASON)
        assert trail.principal == f"staff:{house.people['sofia'].pk}"

    def test_by_a_double_click_is_done_once(self, browse, endpoint):
        client, url = browse("sofia"), url_of(endpoint, "pause")
        sent = {**open_form(client, url), "reason": REASON}

        first, second = client.post(url, sent), client.post(url, sent)

        assert (first.status_code, second.status_code) == (302, 302)
        assert AuditEvent.objects.filter(reason=REASON).count() == 1

    def test_is_off_once_it_is_paused(self, browse, endpoint):
        perform(browse("sofia"), endpoint, "pause")

        assert "It is disabled already." in shown(browse, endpoint)
        assert perform(browse("sofia"), endpoint, "pause").status_code == 409

    def test_is_not_for_those_who_only_look(self, browse, endpoint):
        answer = browse("rosa").get(url_of(endpoint, "pause"))

        endpoint.refresh_from_db()
        assert (answer.status_code, endpoint.status) == (403, "enabled")


class TestPinging:
    def pings(self, endpoint):
        return OutboxEvent.objects.filter(
            organization_id=endpoint.organization_id, type="webhook.ping"
        ).count()

    def test_sends_a_test_event(self, browse, endpoint):
        answer = perform(browse("liam"), endpoint, "ping")

        assert answer.status_code == 302
        assert self.pings(endpoint) == 1

    def test_is_refused_where_the_endpoint_is_off(self, browse, endpoint):
        perform(browse("sofia"), endpoint, "pause")

        answer = perform(browse("liam"), endpoint, "ping")

        assert answer.status_code == 409
        assert self.pings(endpoint) == 0

    def test_is_for_those_who_edit_endpoints(self, browse, endpoint):
        assert browse("sofia").get(url_of(endpoint, "ping")).status_code == 403
        assert self.pings(endpoint) == 0
