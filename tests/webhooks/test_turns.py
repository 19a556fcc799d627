"""Lanes take turns: a backlog is worked beside what others are owed, not before it."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from django.db import connection

from apps.core import clock, work
from apps.webhooks import queries, tasks
from apps.webhooks.models import WebhookLane
from tests.accounts.factories import create_organization
from tests.webhooks.factories import create_endpoint, deliveries, owe


@pytest.fixture
def _short_turns(monkeypatch):
    """One delivery a turn, so that a few hundred are a backlog of many turns."""
    monkeypatch.setattr(tasks, "LANE_DELIVERIES_MAX", 1)


@contextlib.contextmanager
def claiming(lane):
    """Have another connection hold the lane's lock, as whoever claims it does."""
    other = connection.copy("other")
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            cursor.execute(
                "SELECT FROM webhooks_webhooklane WHERE id = %s FOR NO KEY UPDATE", [lane.id]
            )
        yield
    finally:
        other.rollback()
        other.close()


def take_turn():
    """Work the lane whose turn it is; return it."""
    lane = tasks.claim_lane(is_slow=False)
    assert tasks.work_lane(lane, policy=queries.get_policy()) == 1
    return lane


@pytest.mark.usefixtures("_short_turns")
class TestTurns:
    def test_one_of_each_waiting_lane_before_a_second_of_any(self, organization, far):
        for _ in range(2):
            create_endpoint(organization, far.url, max_in_flight=8)
        owe(organization, *(f"thing_{number}" for number in range(64)))
        other = create_organization()
        create_endpoint(other, far.url, max_in_flight=1)
        owe(other, "thing_1")

        turns = [take_turn() for _ in range(17)]

        assert len({lane.id for lane in turns}) == 17
        assert [each.status for each in deliveries(other)] == ["succeeded"]
        assert len(deliveries(organization, status="succeeded")) == 16

    def test_of_one_organization_keep_no_other_waiting(self, organization, far):
        for _ in range(2):
            create_endpoint(organization, far.url, max_in_flight=8)
        owe(organization, *(f"thing_{number}" for number in range(64)))
        others = [create_organization() for _ in range(2)]
        for other in others:
            create_endpoint(other, far.url, max_in_flight=1)
            owe(other, "thing_1", "thing_2")

        turns = [take_turn().organization_id for _ in range(6)]

        # Its backlog of sixteen lanes was there before, and has every third turn.
        owners = [organization.id, *(other.id for other in others)]
        assert sorted(turns[:3]) == sorted(turns[3:]) == sorted(owners)
        # Once the others have nothing left, every one.
        assert {take_turn().organization_id for _ in range(4)} == {organization.id}

    def test_go_on_where_another_worker_holds_what_comes_next(self, organization, far):
        create_endpoint(organization, far.url, max_in_flight=1)
        other = create_organization()
        create_endpoint(other, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        owe(other, "thing_1")
        first, second = WebhookLane.objects.order_by("organization_id")
        tasks._served[False] = UUID(int=0)

        with claiming(first):
            assert tasks.claim_lane(is_slow=False).id == second.id

    def test_begin_again_with_who_had_the_first(self, organization, far):
        create_endpoint(organization, far.url, max_in_flight=2)
        owe(organization, *(f"thing_{number}" for number in range(16)))

        turns = [take_turn().lane for _ in range(4)]

        assert turns[:2] == turns[2:]

    def test_come_when_something_is_due_and_no_earlier(self, organization, far):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1", "thing_2")
        first, second = deliveries(organization)
        later = clock.database_now() + timedelta(days=400)
        type(second).objects.filter(id=second.id).update(next_attempt_at=later)

        take_turn()

        assert WebhookLane.objects.get().next_attempt_at == later
        assert tasks.claim_lane(is_slow=False) is None
        first.refresh_from_db()
        assert first.status == "succeeded"

    def test_of_slow_endpoints_are_told_only_to_the_workers_of_those(self, organization, far):
        create_endpoint(organization, far.url, max_in_flight=1)
        owe(organization, "thing_1")
        assert [kind.name for kind in work.due_kinds()] == ["webhooks.lane"]

        WebhookLane.objects.update(is_slow=True)

        assert [kind.name for kind in work.due_kinds()] == ["webhooks.slow_lane"]


class TestNumbers:
    def test_of_the_apps_own_page_are_those_of_the_code(self):
        page = (Path(tasks.__file__).parents[1] / "README.md").read_text()
        words = {1.0: "one", 10.0: "ten seconds", 20: "twenty"}
        sending = {
            f"leases a lane for {work.lease_of(tasks.HARD_SECONDS)} s",
            f"A turn ends after {words[tasks.LANE_SECONDS_MAX]}",
            f", or {words[tasks.LANE_SECONDS_AWAITED]} where others wait",
            f"at most the {tasks.LANE_DELIVERIES_MAX} of a turn",
            f"each {words[tasks.RECORD_EVERY]} and at least each second",
        }

        assert {text for text in sending if text not in page} == set()
        assert tasks.RECORD_SECONDS == 1
        # Both kinds of lanes have the lease that the page says.
        leases = {kind.name: kind.lease_seconds for kind in work.kinds() if kind.in_threads}
        assert leases == dict.fromkeys(("webhooks.lane", "webhooks.slow_lane"), 40)
