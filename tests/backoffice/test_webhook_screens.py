"""Endpoints as staff see them: how they answer, what is owed to them, and the acts on them."""

from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock
from apps.core.actors import Actor
from apps.core.ids import new_id, new_ids
from apps.core.models import AuditEvent, OutboxEvent
from apps.webhooks import operations
from apps.webhooks.models import (
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookLane,
    WebhookReplay,
    WebhookSecret,
)
from apps.webhooks.operations import EndpointTerms
from apps.webhooks.rules.retries import Outcome
from tests.backoffice.test_acts import REASON, open_form, perform, url_of


@pytest.fixture
def endpoint(house, db):
    """Return the endpoint that does not answer."""
    return WebhookEndpoint.objects.get(organization_id=house.id, description="Old accounting")


def waiting(endpoint):
    return WebhookDelivery.objects.filter(endpoint=endpoint, status="pending")


def by_status(endpoint):
    """Return how many deliveries of the endpoint there are in each status."""
    found = WebhookDelivery.objects.filter(endpoint=endpoint).values_list("status", flat=True)
    return {status: list(found).count(status) for status in set(found)}


def yesterday(hour, minute):
    """Return an instant of the day before, by the clocks in Berlin: those of the house."""
    there = clock.now().astimezone(ZoneInfo("Europe/Berlin")) - timedelta(days=1)
    return there.replace(hour=hour, minute=minute, second=0, microsecond=0)


def typed(instant):
    """Return an instant as a browser sends what a person in Berlin typed."""
    return f"{instant.astimezone(ZoneInfo('Europe/Berlin')):%Y-%m-%dT%H:%M}"


def attempts(delivery, number, **more):
    """Have so many attempts of a delivery made."""
    WebhookAttempt.objects.bulk_create(
        WebhookAttempt(
            id=id_,
            organization_id=delivery.organization_id,
            delivery=delivery,
            endpoint=delivery.endpoint,
            number=99,
            started_at=clock.now(),
            **{"outcome": Outcome.SERVER_ERROR, "status_code": 500, "duration_ms": 12} | more,
        )
        for id_ in new_ids(number)
    )


def shown(browse, row, login="liam"):
    return browse(login).get(url_of(row)).content.decode()


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
        pending = waiting(endpoint)
        pending.update(next_attempt_at=clock.now() + timedelta(hours=1))
        first = pending.first()
        assert '<dt>Oldest due</dt><dd><span class="k-none">' in shown(browse, endpoint)

        WebhookDelivery.objects.filter(pk=first.pk).update(
            next_attempt_at=clock.now() - timedelta(minutes=25)
        )

        assert ">25 min</span>" in shown(browse, endpoint)

    def test_says_how_long_the_last_twenty_attempts_took(self, browse, endpoint):
        attempts(waiting(endpoint).first(), 10, duration_ms=1_500)
        attempts(waiting(endpoint).first(), 10, duration_ms=2_500)
        assert "<dt>Mean of the last 20</dt><dd>2,000 ms</dd>" in shown(browse, endpoint)

        WebhookLane.objects.filter(endpoint=endpoint).update(is_slow=True)

        assert "<dd>2,000 ms, with the slow</dd>" in shown(browse, endpoint)

    def test_says_how_much_was_paused_and_how_much_failed_for_good(self, browse, endpoint):
        first, second, third = waiting(endpoint)[:3]
        at = clock.now() - timedelta(minutes=90)
        ids = [first.pk, second.pk]
        WebhookDelivery.objects.filter(pk__in=ids).update(status="paused", created_at=at)
        WebhookDelivery.objects.filter(pk=third.pk).update(status="failed", closed_at=at)

        text = shown(browse, endpoint)

        assert "<dt>Paused</dt><dd>2, since <time" in text
        assert f"{at:%Y-%m-%d %H:%M:%S} UTC" in text
        assert "<dt>Failed for good</dt><dd>1, since <time" in text

    def test_of_many_endpoints_asks_as_little_as_of_two(self, browse, house, endpoint):
        client, url = browse("liam"), "/admin/webhooks/webhookendpoint/"
        with CaptureQueriesContext(connection) as few:
            client.get(url)
        for number in range(10):
            add_endpoint(house, number)

        with CaptureQueriesContext(connection) as many:
            text = client.get(url).content.decode()

        assert "more-9.demo-markets.example" in text
        assert len(many) == len(few)


def add_endpoint(house, number):
    return operations.create_endpoint(
        organization_id=house.id,
        terms=EndpointTerms(
            url=f"https://more-{number}.demo-markets.example/token-0815", event_types=["*"]
        ),
        idempotency_key=f"more-{number}",
        actor=Actor.job("tests"),
        now=clock.now(),
    )


class TestSecrets:
    def test_are_shown_by_their_expiry_and_never_by_their_text(self, browse, house):
        endpoint, first = add_endpoint(house, 1)
        now = clock.now()
        _, second = operations.rotate_secret(
            organization_id=house.id,
            endpoint_id=endpoint.pk,
            overlap_seconds=3600,
            idempotency_key="rotated",
            actor=Actor.job("tests"),
            now=now,
        )

        text = shown(browse, endpoint)

        assert text.count("until it is rotated") == 1
        assert text.count("until it expires") == 1
        assert f"{now + timedelta(hours=1):%Y-%m-%d %H:%M:%S} UTC" in text
        for secret in (first, second):
            assert secret not in text
            assert secret.removeprefix("whsec_") not in text

    def test_are_not_even_read_where_they_are_sealed(self, browse, endpoint):
        assert WebhookSecret.objects.filter(endpoint=endpoint).count() == 1

        with CaptureQueriesContext(connection) as asked:
            shown(browse, endpoint)

        assert [one["sql"] for one in asked if '"sealed"' in one["sql"]] == []

    def test_that_expired_sign_no_more(self, browse, house):
        endpoint, _ = add_endpoint(house, 1)
        WebhookSecret.objects.filter(endpoint=endpoint).update(expires_at=clock.now())

        text = shown(browse, endpoint)

        assert "until it" not in text
        assert ">expired</span>" in text

    def test_are_rotated_by_their_owner_alone(self, browse, endpoint):
        assert browse("liam").get(url_of(endpoint, "rotate")).status_code == 404
        assert "otate" not in shown(browse, endpoint).split("Secrets", maxsplit=1)[0]


class TestAudit:
    def test_has_of_a_url_the_host_alone_and_says_that_it_was_changed(self, browse, house):
        endpoint, _ = add_endpoint(house, 1)
        who = {"organization_id": house.id, "endpoint_id": endpoint.pk}
        when = {"actor": Actor.job("tests"), "now": clock.now()}
        url = "https://more-1.demo-markets.example/token-4711"
        operations.update_endpoint(**who, changes={"url": url}, **when)
        operations.delete_endpoint(**who, **when)

        made, changed, deleted = AuditEvent.objects.filter(subject_id=str(endpoint.pk)).order_by(
            "id"
        )
        texts = [shown(browse, row, "ada") for row in (made, changed, deleted)]

        assert [text.count("more-1.demo-markets.example") for text in texts] == [1, 2, 1]
        assert "<dt>After: url</dt><dd>changed</dd>" in texts[1]
        for text in (*texts, shown(browse, endpoint)):
            assert "token-" not in text


class TestAnAnswer:
    def test_is_shown_escaped_whatever_the_other_side_said(self, browse, endpoint):
        delivery = waiting(endpoint).first()
        head = "<script>alert(1)</script><img src=x onerror=alert(2)>"
        attempts(delivery, 1, answer_head=head)

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
        assert not waiting(endpoint).exists()
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

        text = shown(browse, endpoint)
        assert "<b>Pause this endpoint</b> It is disabled already." in text
        assert "<b>Send again what failed, Send a test event</b> It is not enabled." in text
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
        assert AuditEvent.objects.get(reason=REASON).act == "webhooks.ping_endpoint"

    def test_by_a_double_click_is_done_once(self, browse, endpoint):
        client, url = browse("liam"), url_of(endpoint, "ping")
        sent = {**open_form(client, url), "reason": REASON}

        first, second = client.post(url, sent), client.post(url, sent)

        assert (first.status_code, second.status_code) == (302, 302)
        assert self.pings(endpoint) == 1

    def test_is_refused_where_the_endpoint_is_off(self, browse, endpoint):
        perform(browse("sofia"), endpoint, "pause")

        answer = perform(browse("liam"), endpoint, "ping")

        assert answer.status_code == 409
        assert self.pings(endpoint) == 0

    def test_is_for_those_who_edit_endpoints(self, browse, endpoint):
        assert browse("sofia").get(url_of(endpoint, "ping")).status_code == 403
        assert self.pings(endpoint) == 0


class TestEnabling:
    @pytest.fixture
    def paused(self, browse, endpoint):
        """Return the endpoint, off, with the first of what it is owed made an hour earlier."""
        assert waiting(endpoint).count() > 1
        first = waiting(endpoint).order_by("id").first()
        waiting(endpoint).update(created_at=yesterday(12, 30))
        WebhookDelivery.objects.filter(pk=first.pk).update(created_at=yesterday(11, 30))
        perform(browse("sofia"), endpoint, "pause")
        endpoint.refresh_from_db()
        return endpoint

    def test_sends_all_that_was_paused(self, browse, paused):
        before = by_status(paused)

        answer = perform(browse("liam"), paused, "enable", paused="resume")

        paused.refresh_from_db()
        assert (answer.status_code, paused.status, paused.disabled_reason) == (302, "enabled", "")
        assert by_status(paused) == {"pending": before["paused"]}

    def test_sends_what_was_made_since_then_and_cancels_the_rest(self, browse, house, paused):
        before, since = by_status(paused), yesterday(12, 0)

        perform(browse("liam"), paused, "enable", paused="resume_since", since=typed(since))

        assert by_status(paused) == {"pending": before["paused"] - 1, "canceled": 1}
        row = AuditEvent.objects.get(act="webhooks.enable_endpoint")
        assert (row.reason, row.principal) == (REASON, f"staff:{house.people['liam'].pk}")
        assert row.after == {"paused": "resume_since", "since": since.astimezone(UTC).isoformat()}

    def test_cancels_all_that_was_paused(self, browse, paused):
        before = by_status(paused)

        perform(browse("liam"), paused, "enable", paused="discard", since=typed(clock.now()))

        assert by_status(paused) == {"canceled": before["paused"]}
        assert AuditEvent.objects.get(act="webhooks.enable_endpoint").after == {"paused": "discard"}

    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"paused": "anything"},
            {"paused": "resume_since"},
            {"paused": "resume_since", "since": "yesterday"},
            {"paused": "resume_since", "since": "0001-01-01T00:00"},
            {"paused": "resume_since", "since": "2026-06-30T14:05+02:00"},
            {"paused": "resume", "reason": "no"},
        ],
    )
    def test_wants_to_know_what_becomes_of_what_was_paused(self, browse, paused, given):
        before = by_status(paused)

        answer = perform(browse("liam"), paused, "enable", **given)

        paused.refresh_from_db()
        assert (answer.status_code, paused.status) == (400, "disabled")
        assert by_status(paused) == before

    def test_by_a_double_click_is_done_once(self, browse, paused):
        client, url = browse("liam"), url_of(paused, "enable")
        sent = {**open_form(client, url), "reason": REASON, "paused": "resume"}

        first, second = client.post(url, sent), client.post(url, sent)

        assert (first.status_code, second.status_code) == (302, 302)
        assert AuditEvent.objects.filter(act="webhooks.enable_endpoint").count() == 1

    def test_is_refused_where_the_endpoint_is_on(self, browse, endpoint):
        before = by_status(endpoint)

        answer = perform(browse("liam"), endpoint, "enable", paused="discard")

        assert answer.status_code == 409
        assert b"endpoint_enabled" in answer.content
        assert by_status(endpoint) == before

    @pytest.mark.parametrize("login", ["sofia", "noor", "rosa"])
    def test_is_for_those_who_edit_endpoints(self, browse, paused, login):
        answer = browse(login).post(
            url_of(paused, "enable"),
            {"paused": "resume", "reason": REASON, "form_token": str(new_id())},
        )

        paused.refresh_from_db()
        assert (answer.status_code, paused.status) == (403, "disabled")

    def test_says_on_its_form_how_much_it_is_about(self, browse, paused):
        text = browse("liam").get(url_of(paused, "enable")).content.decode()

        assert f"<dt>Paused</dt><dd>{by_status(paused)['paused']}, since" in text
        assert "By the clocks of Europe/Berlin." in text

    def test_waits_until_all_is_set_aside_and_the_screens_say_so(self, browse, paused):
        last = WebhookDelivery.objects.filter(endpoint=paused, status="paused").last()
        WebhookDelivery.objects.filter(pk=last.pk).update(status="pending")
        WebhookEndpoint.objects.filter(pk=paused.pk).update(is_changing=True)

        text = shown(browse, paused)

        assert "still being set aside; that ends by itself." in text
        assert url_of(paused, "enable") not in text
        for page in (text, browse("liam").get("/admin/webhooks/webhookendpoint/").content.decode()):
            assert "being changed</span>" in page
            assert "off by request</span>" in page
        answer = perform(browse("liam"), paused, "enable", paused="resume")
        assert (answer.status_code, b"endpoint_changing" in answer.content) == (409, True)

        WebhookDelivery.objects.filter(pk=last.pk).update(status="paused")

        assert url_of(paused, "enable") in shown(browse, paused)


class TestReplaying:
    @pytest.fixture
    def failed(self, endpoint):
        """Return the endpoint with two deliveries that failed for good, an hour apart."""
        for hour, delivery in zip((11, 12), waiting(endpoint).order_by("id"), strict=False):
            WebhookDelivery.objects.filter(pk=delivery.pk).update(
                status="failed", closed_at=clock.now(), created_at=yesterday(hour, 30)
            )
        return endpoint

    @pytest.mark.parametrize("login", ["sofia", "liam", "noor"])
    def test_sends_again_what_failed_and_was_made_since_then(self, browse, failed, login):
        before, since = by_status(failed), yesterday(12, 0)

        answer = perform(browse(login), failed, "replay", since=typed(since))

        replay = WebhookReplay.objects.get(endpoint=failed)
        assert answer.status_code == 302
        assert by_status(failed) == {"pending": before["pending"] + 1, "failed": 1}
        assert (replay.delivery_count, replay.reason) == (1, REASON)
        row = AuditEvent.objects.get(act="webhooks.replay")
        assert (row.reason, row.after["scope"]) == (
            REASON,
            f"failed since {since.astimezone(UTC).isoformat()}",
        )

    def test_says_so_where_nothing_failed_since(self, browse, failed):
        before, url = by_status(failed), url_of(failed, "replay")
        client = browse("sofia")
        sent = {**open_form(client, url), "reason": REASON, "since": typed(yesterday(13, 0))}

        text = client.post(url, sent, follow=True).content.decode()

        assert "Nothing that was made since then has failed for good; nothing is sent." in text
        assert by_status(failed) == before

    def test_reaches_back_fourteen_days(self, browse, failed):
        before, since = by_status(failed), clock.now() - timedelta(days=15)

        answer = perform(browse("sofia"), failed, "replay", since=typed(since))

        assert answer.status_code == 422
        assert b"replay_too_old" in answer.content
        assert by_status(failed) == before

    def test_is_refused_where_the_endpoint_is_off(self, browse, failed):
        perform(browse("sofia"), failed, "pause")
        before = by_status(failed)

        answer = perform(browse("sofia"), failed, "replay", since=typed(yesterday(11, 0)))

        assert answer.status_code == 409
        assert by_status(failed) == before

    @pytest.mark.parametrize("login", ["rosa", "anton", "ada"])
    def test_is_for_those_who_replay(self, browse, failed, login):
        before = by_status(failed)

        answer = browse(login).post(
            url_of(failed, "replay"),
            {"since": typed(clock.now()), "reason": REASON, "form_token": str(new_id())},
        )

        assert answer.status_code == 403
        assert by_status(failed) == before
