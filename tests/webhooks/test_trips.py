"""Opening and recording take the same few trips to Postgres for one delivery and for fifty."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock, statements
from apps.webhooks import operations, tasks
from apps.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookLane
from apps.webhooks.operations._health import health_of
from apps.webhooks.rules.retries import Attempt, Health, Outcome
from tests.webhooks.conftest import broken_invariants
from tests.webhooks.factories import create_endpoint, deliver, deliveries, make_due, owe
from tests.webhooks.waiting import held_up


def open_lane(limit=50):
    lane = tasks.claim_lane(is_slow=False)
    return lane, operations.open_lane(lane=lane, limit=limit, now=clock.now())


def record(lane, owed, outcome=Outcome.SUCCEEDED, *, is_last=True):
    return operations.record_attempts(
        lane=lane,
        seen=owed.seen,
        attempts=[
            Attempt(
                delivery_id=each.delivery_id,
                number=each.number,
                started_at=clock.now(),
                duration_ms=1,
                outcome=outcome,
                status_code=200 if outcome is Outcome.SUCCEEDED else None,
            )
            for each in owed.owed
        ],
        is_last=is_last,
        now=clock.now(),
    )


def cost(call):
    """How many statements this takes, of which Django's own, and how many trips for the others."""
    before = statements.trips()
    with CaptureQueriesContext(connection) as asked:
        answer = call()
    asked_for = [each["sql"] for each in asked if each["sql"] not in {"BEGIN", "COMMIT"}]
    ours = sum("%(org)s" in sql for sql in asked_for)
    return answer, (ours, len(asked_for) - ours, statements.trips() - before)


@pytest.mark.parametrize("number", [1, 2, 50])
class TestCost:
    def test_of_a_turn_is_that_of_one_delivery(self, organization, far, number):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{each}" for each in range(number)))
        # By then this process knows the key that opens the secret.
        lane, _ = open_lane()

        owed, opening = cost(lambda: operations.open_lane(lane=lane, limit=50, now=clock.now()))
        _, recording = cost(lambda: record(lane, owed))

        assert len(owed.owed) == number
        # BEGIN and the questions; COMMIT.
        assert opening == (3, 0, 2)
        # BEGIN, the locks and the attempts; what is due next; the changes and COMMIT.
        assert recording == (8, 0, 3)
        assert {each.status for each in deliveries(organization)} == {"succeeded"}
        assert WebhookAttempt.objects.count() == number
        assert WebhookLane.objects.get().state == "done"
        assert broken_invariants() == []

    def test_of_a_record_before_the_last_is_smaller(self, organization, far, number):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{each}" for each in range(number)))
        lane, owed = open_lane()

        recorded, recording = cost(lambda: record(lane, owed, is_last=False))

        assert (recorded.is_held, recorded.is_stopped) == (True, False)
        assert recording == (6, 0, 2)
        assert WebhookLane.objects.get().state == "leased"


class TestTurn:
    def test_opens_its_lane_once(self, organization, far, monkeypatch):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, *(f"thing_{each}" for each in range(45)))
        opened = []
        real = operations.open_lane

        def count(**asked):
            opened.append(asked["limit"])
            return real(**asked)

        monkeypatch.setattr(operations, "open_lane", count)

        assert deliver() == 45

        assert opened == [50]
        assert len(set(far.ids())) == len(far.requests) == 45


class TestLocks:
    """The endpoint's lock comes before the lane's, and only where it is needed."""

    LOCK_ENDPOINT = "SELECT FROM webhooks_webhookendpoint WHERE id = %s FOR NO KEY UPDATE"
    LOCK_LANE = "SELECT FROM webhooks_webhooklane WHERE id = %s FOR NO KEY UPDATE NOWAIT"

    def lane_is_free(self, other, lane):
        with other.cursor() as cursor:
            cursor.execute(self.LOCK_LANE, [lane.id])
            return cursor.rowcount == 1

    def failing(self, endpoint):
        WebhookEndpoint.objects.filter(id=endpoint.id).update(
            unreached_in_a_row=4, first_failure_at=clock.now()
        )

    def test_of_a_healthy_endpoint_is_neither_taken_nor_waited_for(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        other = connection.copy("other")
        other.set_autocommit(False)
        try:
            with other.cursor() as cursor:
                cursor.execute(self.LOCK_ENDPOINT, [endpoint.id])
                assert cursor.rowcount == 1

            lane, owed = open_lane()
            record(lane, owed)
        finally:
            other.rollback()
            other.close()

        assert [each.status for each in deliveries(organization)] == ["succeeded"]

    def test_is_waited_for_by_a_failure_which_holds_no_lane_meanwhile(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        lane, owed = open_lane()

        with held_up(
            lambda: record(lane, owed, Outcome.CONNECT_ERROR), self.LOCK_ENDPOINT, [endpoint.id]
        ) as other:
            assert self.lane_is_free(other, lane)

        endpoint.refresh_from_db()
        assert endpoint.unreached_in_a_row == 1

    def test_is_waited_for_by_a_success_at_one_that_was_failing(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        lane, owed = open_lane()
        self.failing(endpoint)

        with held_up(lambda: record(lane, owed), self.LOCK_ENDPOINT, [endpoint.id]) as other:
            assert self.lane_is_free(other, lane)

        endpoint.refresh_from_db()
        assert health_of(endpoint) == Health()

    @pytest.mark.parametrize(
        "change",
        [
            {"status": "disabled", "disabled_reason": "requested"},
            {"max_in_flight": 2},
            {"is_changing": True},
            {"circuit_open_until": clock.now(), "circuit_openings": 1},
        ],
    )
    def test_is_waited_for_before_a_lane_is_opened_if_anything_is_to_be_decided(
        self, organization, far, change
    ):
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        WebhookEndpoint.objects.filter(id=endpoint.id).update(**change)
        lane = tasks.claim_lane(is_slow=False)

        def opened():
            operations.open_lane(lane=lane, limit=50, now=clock.now())

        with held_up(opened, self.LOCK_ENDPOINT, [endpoint.id]) as other:
            assert self.lane_is_free(other, lane)

    def test_of_a_lost_lane_opens_nothing(self, organization, far):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        lost = tasks.claim_lane(is_slow=False)
        make_due(organization)
        WebhookLane.objects.update(next_attempt_at=clock.now())
        taken = tasks.claim_lane(is_slow=False)

        assert operations.open_lane(lane=lost, limit=50, now=clock.now()) is None

        assert WebhookLane.objects.get().lease_token == taken.lease_token
        assert len(operations.open_lane(lane=taken, limit=50, now=clock.now()).owed) == 1


class TestOpening:
    def test_that_waits_for_its_lane_sees_what_was_set_aside_meanwhile(self, organization, far):
        """What follows the lane's lock, in the same trip, is read under it."""
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1", "thing_2")
        lane, answers = tasks.claim_lane(is_slow=False), []
        kept, canceled = deliveries(organization)

        def opened():
            answers.append(operations.open_lane(lane=lane, limit=50, now=clock.now()))

        sql = "SELECT FROM webhooks_webhooklane WHERE id = %s FOR NO KEY UPDATE"
        with held_up(opened, sql, [lane.id]) as other:
            with other.cursor() as cursor:
                cursor.execute(
                    "UPDATE webhooks_webhookdelivery SET status = 'paused' WHERE id = %s",
                    [canceled.id],
                )
            other.commit()

        assert [each.delivery_id for each in answers[0].owed] == [kept.id]

    def test_takes_the_secret_and_url_of_one_instant(self, organization, far):
        endpoint, _ = create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        lane, answers = tasks.claim_lane(is_slow=False), []

        def opened():
            answers.append(operations.open_lane(lane=lane, limit=50, now=clock.now()))

        sql = "SELECT FROM webhooks_webhooklane WHERE id = %s FOR NO KEY UPDATE"
        with held_up(opened, sql, [lane.id]) as other:
            with other.cursor() as cursor:
                cursor.execute(
                    "UPDATE webhooks_webhookendpoint SET url = %s, revision = 7 WHERE id = %s",
                    [far.url + "/new", endpoint.id],
                )
            other.commit()

        assert (answers[0].url, answers[0].seen.revision) == (far.url + "/new", 7)


class TestRecord:
    def test_without_attempts_lets_the_lane_go(self, organization, far):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        lane, owed = open_lane()

        recorded = operations.record_attempts(
            lane=lane, seen=owed.seen, attempts=[], is_last=True, now=clock.now()
        )

        assert recorded.is_held
        lane.refresh_from_db()
        assert (lane.state, lane.attempts, lane.lease_token) == ("pending", 0, None)
        assert lane.next_attempt_at <= clock.database_now()
        assert WebhookAttempt.objects.count() == 0

    def test_leaves_what_was_canceled_meanwhile_as_it_is(self, organization, far):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1", "thing_2")
        lane, owed = open_lane()
        _, canceled = deliveries(organization)
        WebhookDelivery.objects.filter(id=canceled.id).update(
            status="canceled", closed_at=clock.now()
        )

        record(lane, owed)

        assert [each.status for each in deliveries(organization)] == ["succeeded", "canceled"]
        assert [each.attempts for each in deliveries(organization)] == [1, 0]
        assert WebhookAttempt.objects.count() == 2

    def test_of_an_answer_without_a_status_stores_none(self, organization, far):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1", "thing_2")
        lane, owed = open_lane()

        record(lane, owed, Outcome.TIMEOUT)

        assert set(WebhookAttempt.objects.values_list("status_code", "outcome")) == {
            (None, "timeout")
        }
        assert {
            (each.status, each.last_status_code, each.attempts_made)
            for each in deliveries(organization)
        } == {("pending", None, 1)}
