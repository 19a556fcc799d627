"""Acts on an endpoint where more is open than one transaction brings in line (ADR 0127)."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from apps.core import clock, work
from apps.core.ids import encode_id
from apps.webhooks import operations, tasks
from apps.webhooks.errors import EndpointChanging
from apps.webhooks.models import WebhookChange, WebhookDelivery, WebhookEndpoint, WebhookLane
from apps.webhooks.operations import Progress, _changes
from apps.webhooks.rules import subscriptions
from apps.webhooks.rules.retries import Outcome
from tests.accounts.factories import Api
from tests.webhooks.acts import Acts, attempt, fan_out_held_up
from tests.webhooks.conftest import broken_invariants
from tests.webhooks.factories import (
    carry_out_changes,
    create_endpoint,
    deliver,
    deliveries,
    make_due,
    owe,
    publish,
    relay,
)
from tests.webhooks.test_endpoints_api import ALL
from tests.webhooks.waiting import held_up


@pytest.fixture(autouse=True)
def _small_portions(monkeypatch):
    monkeypatch.setattr(_changes, "PORTION", 3)


@pytest.fixture
def endpoint(organization, far):
    found, _ = create_endpoint(organization, far.url, event_types=["thing.*"], max_in_flight=8)
    relay()
    return found


@pytest.fixture
def acts(endpoint):
    return Acts(endpoint)


@pytest.fixture
def backlog(organization, endpoint, acts):
    """Eight deliveries that were set aside."""
    acts.disable()
    owe(organization, *(f"thing_{number}" for number in range(8)))


@pytest.fixture
def waiting(organization, endpoint):
    """Eight deliveries that wait to be sent."""
    owe(organization, *(f"thing_{number}" for number in range(8)))


def statuses(organization):
    return Counter(str(each.status) for each in deliveries(organization))


def claim_change():
    [change] = work.claim_due(WebhookChange, limit=1, lease_seconds=60)
    return change


def is_spread(organization, *, lanes):
    return all(
        each.lane == subscriptions.lane_of(each.lane_key, lanes=lanes)
        for each in deliveries(organization)
    )


def send():
    """Have the lanes that are due worked, and no change carried out."""
    return deliver(with_changes=False)


class TestPortion:
    """The act answers after the first one; the rest follows, and no lane is opened before."""

    def test_of_what_is_resumed(self, organization, far, endpoint, acts, backlog):
        acts.enable("resume")

        endpoint.refresh_from_db()
        assert (endpoint.status, endpoint.is_changing) == ("enabled", True)
        assert statuses(organization) == {"pending": 3, "paused": 5}
        assert send() == 0
        assert broken_invariants() == []

        carry_out_changes()

        endpoint.refresh_from_db()
        assert (endpoint.is_changing, endpoint.resume_from) == (False, None)
        assert WebhookChange.objects.get().state == "done"
        assert statuses(organization) == {"pending": 8}
        assert send() == 8
        assert broken_invariants() == []

    def test_of_what_is_discarded(self, organization, far, acts, backlog):
        acts.enable("discard")
        assert statuses(organization) == {"canceled": 3, "paused": 5}
        owe(organization, "thing_8")
        assert send() == 0

        carry_out_changes()

        assert statuses(organization) == {"canceled": 8, "pending": 1}
        assert send() == 1
        assert broken_invariants() == []

    def test_of_what_is_resumed_since_a_time(self, organization, far, acts, backlog):
        now = clock.now()
        late = [each.id for each in deliveries(organization)][:4]
        WebhookDelivery.objects.update(created_at=now - timedelta(hours=2))
        WebhookDelivery.objects.filter(id__in=late).update(created_at=now - timedelta(hours=1))

        acts.enable("resume_since", since=now - timedelta(minutes=90))
        carry_out_changes()

        assert {each.id for each in deliveries(organization, status="pending")} == set(late)
        assert statuses(organization) == {"canceled": 4, "pending": 4}
        assert send() == 4

    def test_of_what_is_set_aside(self, organization, far, endpoint, acts, waiting):
        acts.disable()

        assert statuses(organization) == {"paused": 3, "pending": 5}
        assert send() == 0
        assert broken_invariants() == []

        carry_out_changes()

        assert statuses(organization) == {"paused": 8}
        assert send() == 0
        assert set(WebhookLane.objects.values_list("state", flat=True)) <= {"pending", "done"}
        assert broken_invariants() == []

    @pytest.mark.parametrize("before", ["backlog", "waiting"])
    def test_of_what_is_canceled(self, request, organization, far, endpoint, acts, before):
        request.getfixturevalue(before)

        acts.delete()

        assert statuses(organization)["canceled"] == 3
        assert send() == 0
        assert broken_invariants() == []

        carry_out_changes()

        assert statuses(organization) == {"canceled": 8}
        make_due(organization)
        assert send() == 0
        assert set(WebhookLane.objects.values_list("state", flat=True)) == {"done"}
        assert broken_invariants() == []

    def test_of_what_is_put_on_other_lanes(self, organization, far, endpoint, acts, waiting):
        acts.update(max_in_flight=3)

        endpoint.refresh_from_db()
        assert (endpoint.lanes, endpoint.is_changing) == (3, True)
        # What comes meanwhile is on its new lane from the beginning.
        owe(organization, *(f"more_{number}" for number in range(4)))
        assert send() == 0
        assert broken_invariants() == []

        carry_out_changes()

        assert is_spread(organization, lanes=3)
        assert send() == 12
        assert broken_invariants() == []

    def test_that_is_all_leaves_nothing_to_a_worker(self, organization, far, endpoint, acts):
        owe(organization, "thing_1", "thing_2")

        acts.disable()
        acts.enable()

        endpoint.refresh_from_db()
        assert not endpoint.is_changing
        assert WebhookChange.objects.count() == 0
        assert send() == 2

    def test_keeps_those_of_one_place_together(self, organization, far, acts, endpoint):
        for sequence in range(1, 9):
            owe(organization, "thing_1", sequence=sequence)
        WebhookDelivery.objects.update(sequence=1)

        acts.update(max_in_flight=1)

        assert {each.lane for each in deliveries(organization)} == {0}


class TestSecondAct:
    """What is being carried out goes on as the last act has it."""

    def test_enabling_waits_until_all_is_set_aside(self, organization, far, acts, waiting):
        acts.disable()

        with pytest.raises(EndpointChanging):
            acts.enable("discard")

        assert statuses(organization) == {"paused": 3, "pending": 5}
        carry_out_changes()
        acts.enable("discard")
        carry_out_changes()
        assert statuses(organization) == {"canceled": 8}
        assert broken_invariants() == []

    def test_enabling_is_asked_again_with_the_same_key(self, organization, far, acts, waiting):
        acts.disable()
        api = Api(organization, *ALL)
        path = f"/v1/webhook_endpoints/{encode_id('whe', acts.key['endpoint_id'])}/enable"

        early = api.post(path, {"paused": "resume"}, key="enable")
        carry_out_changes()
        later = api.post(path, {"paused": "resume"}, key="enable")

        assert (early.status_code, early.json()["code"]) == (409, "endpoint_changing")
        assert early["Retry-After"] == "1"
        # Kept under the key it would be the answer for a month.
        assert (later.status_code, later.json()["status"]) == (200, "enabled")

    def test_disabling_leaves_what_was_discarded_before(self, organization, far, acts, backlog):
        acts.enable("discard")
        owe(organization, "thing_8")
        acts.disable()
        owe(organization, "thing_9")
        assert broken_invariants() == []
        with pytest.raises(EndpointChanging):
            acts.enable("resume")

        carry_out_changes()

        assert statuses(organization) == {"canceled": 8, "paused": 2}
        acts.enable("resume")
        carry_out_changes()
        assert send() == 2

    def test_disabling_sets_aside_what_was_resumed(self, organization, far, acts, backlog):
        acts.enable("resume")
        acts.disable()

        carry_out_changes()

        assert statuses(organization) == {"paused": 8}
        assert send() == 0

    @pytest.mark.parametrize("paused", ["resume", "discard"])
    def test_deleting_cancels_all(self, organization, far, acts, backlog, paused):
        acts.enable(paused)
        acts.delete()

        carry_out_changes()

        assert statuses(organization) == {"canceled": 8}
        assert WebhookChange.objects.get().state == "done"

    def test_other_lanes_are_those_of_the_last_change(
        self, organization, far, endpoint, acts, waiting
    ):
        acts.update(max_in_flight=3)
        owe(organization, *(f"more_{number}" for number in range(4)))
        acts.update(max_in_flight=5)
        assert broken_invariants() == []

        carry_out_changes()

        endpoint.refresh_from_db()
        assert (endpoint.lanes, endpoint.is_changing) == (5, False)
        assert is_spread(organization, lanes=5)
        assert send() == 12

    def test_other_lanes_are_kept_by_what_is_resumed(self, organization, far, acts, backlog):
        acts.enable("resume")
        acts.update(max_in_flight=3)

        carry_out_changes()

        assert is_spread(organization, lanes=3)
        assert send() == 8

    def test_while_a_worker_has_the_change_is_carried_out_by_it(
        self, organization, far, endpoint, acts, backlog
    ):
        acts.enable("resume")
        change = claim_change()
        acts.delete()

        while operations.carry_on(change=change, now=clock.now()) is Progress.MORE:
            pass

        assert statuses(organization) == {"canceled": 8}
        endpoint.refresh_from_db()
        assert (endpoint.status, endpoint.is_changing) == ("deleted", False)
        assert WebhookChange.objects.get().state == "done"

    def test_at_one_endpoint_leaves_another_alone(self, organization, far, endpoint, backlog):
        other, _ = create_endpoint(organization, far.url, event_types=["thing.*"])
        Acts(endpoint).delete()
        owe(organization, "thing_8")

        carry_out_changes()

        assert [each.status for each in deliveries(organization, endpoint=other)] == ["pending"]


class TestCrash:
    def test_between_portions_is_gone_on_from(self, organization, far, endpoint, acts, waiting):
        acts.update(max_in_flight=3)
        operations.carry_on(change=claim_change(), now=clock.now())
        # Its worker is gone, and its lease ends.
        WebhookChange.objects.update(next_attempt_at=clock.now())

        carry_out_changes()

        assert is_spread(organization, lanes=3)
        assert send() == 8
        assert broken_invariants() == []

    def test_leaves_who_comes_back_nothing_to_do(self, organization, far, acts, backlog):
        acts.enable("resume")
        lost = claim_change()
        WebhookChange.objects.update(next_attempt_at=clock.now())
        claim_change()

        assert operations.carry_on(change=lost, now=clock.now()) is Progress.DONE

        assert statuses(organization) == {"pending": 3, "paused": 5}
        assert WebhookChange.objects.get().state == "leased"


class TestFanOut:
    """It has looked at the endpoint before a change is over, and commits after."""

    def test_owes_what_is_sent_though_all_before_is_discarded(
        self, organization, far, acts, backlog
    ):
        publish(organization, "thing_8")

        with fan_out_held_up():
            acts.enable("discard")
            carry_out_changes()

        assert statuses(organization) == {"canceled": 8, "pending": 1}
        assert broken_invariants() == []
        assert send() == 1

    def test_sets_aside_once_what_was_resumed_is(self, organization, far, acts, backlog):
        acts.enable("discard")
        acts.disable()
        publish(organization, "thing_8")

        with fan_out_held_up():
            carry_out_changes()

        assert statuses(organization) == {"canceled": 8, "paused": 1}
        assert broken_invariants() == []

    def test_puts_on_the_new_lanes(self, organization, far, acts, waiting):
        publish(organization, *(f"more_{number}" for number in range(8)))

        with fan_out_held_up():
            acts.update(max_in_flight=3)
            carry_out_changes()

        assert is_spread(organization, lanes=3)
        assert send() == 16


class TestSending:
    def test_that_is_under_way_is_recorded_and_then_stops(
        self, organization, far, endpoint, acts, waiting
    ):
        lane = tasks.claim_lane(is_slow=False)
        owed = operations.open_lane(lane=lane, limit=1, now=clock.now())
        acts.disable()
        carry_out_changes()

        recorded = operations.record_attempts(
            lane=lane,
            seen=owed.seen,
            attempts=[attempt(owed, Outcome.SUCCEEDED)],
            is_last=False,
            now=clock.now(),
        )

        assert recorded.is_stopped
        assert operations.open_lane(lane=lane, limit=1, now=clock.now()) is None
        assert statuses(organization) == {"paused": 8}
        assert (
            broken_invariants()
            == [
                # It was set aside when it had been sent; it is sent again, as ever (ADR 0113).
            ]
        )

    def test_on_a_lane_holds_other_lanes_back_until_it_is_let_go(
        self, organization, far, endpoint, acts, waiting
    ):
        lane = tasks.claim_lane(is_slow=False)
        acts.update(max_in_flight=3)
        carry_out_changes()

        endpoint.refresh_from_db()
        assert (endpoint.lanes, endpoint.is_changing) == (8, True)
        assert WebhookChange.objects.get().last_error_code == "lanes_held"
        assert is_spread(organization, lanes=8)

        operations.open_lane(lane=lane, limit=1, now=clock.now())
        make_due(organization)
        carry_out_changes()

        assert is_spread(organization, lanes=3)
        assert send() == 8

    @pytest.mark.parametrize("status", ["disabled", "deleted"])
    def test_is_not_begun_by_who_waited_for_the_lane_meanwhile(
        self, organization, far, endpoint, waiting, status
    ):
        """It found nothing to decide, and then an act took all lanes' locks."""
        lane, answers = tasks.claim_lane(is_slow=False), []

        def opened():
            answers.append(operations.open_lane(lane=lane, limit=50, now=clock.now()))

        sql = "SELECT FROM webhooks_webhooklane WHERE id = %s FOR NO KEY UPDATE"
        with held_up(opened, sql, [lane.id]) as other:
            with other.cursor() as cursor:
                cursor.execute(
                    "UPDATE webhooks_webhookendpoint SET status = %s, is_changing = TRUE,"
                    " disabled_reason = 'requested' WHERE id = %s",
                    [status, endpoint.id],
                )
            other.commit()

        assert answers == [None]
        assert WebhookLane.objects.get(id=lane.id).state == "pending"
        assert WebhookEndpoint.objects.get().is_changing
