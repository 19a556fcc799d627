"""What is asked about an endpoint reads what it is about, however much there was before."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock, transactions
from apps.webhooks import queries
from apps.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookLane
from apps.webhooks.queries import _attempts
from apps.webhooks.rules import retries
from tests.support import count_rows_read
from tests.webhooks.factories import create_endpoint, deliveries, owe

MANY = 3_000


def named(organization, endpoint):
    return {"organization_id": organization.id, "endpoint_id": endpoint.id}


@transactions.outermost
def plan_of(statement):
    """Return Postgres' plan, a scan of a whole table only if there is no other way."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {statement}")
        return "\n".join(line for (line,) in cursor.fetchall())


class TestWhatFailed:
    def test_is_found_by_an_index_of_its_own(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url)
        owe(organization, "thing_1", "thing_2")
        WebhookDelivery.objects.filter(aggregate_id="thing_1").update(
            status="failed", closed_at=clock.now()
        )

        @transactions.outermost
        def find():
            since = clock.now() - timedelta(days=1)
            return queries.lock_failed_since(**named(organization, endpoint), since=since)

        with CaptureQueriesContext(connection) as asked:
            found = find()

        assert [each.aggregate_id for each in found] == ["thing_1"]
        [statement] = [each["sql"] for each in asked if each["sql"].startswith("SELECT")]
        assert "webhook_delivery_failed" in plan_of(statement)


class TestHowItIsReached:
    def test_is_told_by_the_last_attempts_where_all_before_succeeded(self, organization, far):
        """Planned for anybody: as where ANALYZE has seen nothing but success."""
        endpoint, _ = create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        [delivery] = deliveries(organization)
        now = clock.now()
        WebhookAttempt.objects.bulk_create(
            WebhookAttempt(
                organization=organization,
                endpoint=endpoint,
                delivery=delivery,
                number=number,
                started_at=now,
                duration_ms=number,
                outcome="succeeded",
            )
            for number in range(1, MANY + 1)
        )
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE webhooks_webhookattempt")
        lane = WebhookLane.objects.filter(endpoint=endpoint).earliest("id")
        told = []

        @transactions.outermost
        def look():
            standing = queries.lock_for_record(
                lane=lane, delivery_ids=[delivery.id], is_judged=False, append=lambda: None
            )
            told.append(standing.durations_ms)

        read = count_rows_read("webhooks_webhookattempt", look)

        assert told == [list(range(MANY, MANY - retries.SLOW_SAMPLE, -1))]
        assert read <= 3 * retries.SLOW_SAMPLE


class TestEventsThatFailed:
    def test_are_counted_no_further_than_it_matters(self, organization, far, monkeypatch):
        monkeypatch.setattr(_attempts, "_LOOKED_AT", 2)
        endpoint, _ = create_endpoint(organization, far.url)
        owe(organization, *(f"thing_{number}" for number in range(4)))
        since = clock.now()
        before, after = since - timedelta(seconds=1), since + timedelta(seconds=1)
        one, two, three, four = deliveries(organization)
        for delivery, started_at, outcome in (
            (four, before, "refused"),
            (one, before, "refused"),
            (one, after, "refused"),
            (four, after, "internal_error"),
            (one, after, "timeout"),
            (two, after, "refused"),
            (three, after, "refused"),
        ):
            WebhookAttempt.objects.create(
                organization=organization,
                endpoint=endpoint,
                delivery=delivery,
                number=1,
                started_at=started_at,
                duration_ms=1,
                outcome=outcome,
            )

        def count(at_most):
            with CaptureQueriesContext(connection) as asked:
                counted = queries.count_failed_events(
                    **named(organization, endpoint), since=since, at_most=at_most
                )
            return counted, len(asked)

        assert count(10) == (3, 4)
        assert count(2) == (2, 1)
