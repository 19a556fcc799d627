"""What is asked about an endpoint reads what it is about, however much there was before."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock, transactions
from apps.webhooks import queries
from apps.webhooks.models import WebhookAttempt, WebhookDelivery
from apps.webhooks.queries import _attempts
from tests.webhooks.factories import create_endpoint, deliveries, owe


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
