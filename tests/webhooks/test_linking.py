"""What found no object is linked to one by staff, and what was kept long enough goes."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest

from apps.accounts.errors import CapabilityMissing
from apps.core import clock, invariants, work
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import new_id
from apps.core.models import AuditEvent, OutboxEvent
from apps.webhooks import operations, registry, tasks
from apps.webhooks.errors import (
    InboundBodyGone,
    InboundEventNotFound,
    InboundEventSettled,
    InboundObjectNotFound,
)
from apps.webhooks.models import InboundEvent
from tests.accounts.factories import create_organization, create_staff
from tests.support import past_the_guards, race
from tests.webhooks.inbox import age, kept, message, tell
from tests.webhooks.things import appear, standing

REASON = "The payer wrote another number."


pytestmark = pytest.mark.usefixtures("known_things")


@pytest.fixture
def unmatched(connection):
    """An event whose object was not known for three days."""
    tell(connection, message("thing.paid", "thing_unknown"), message_id="msg_1")
    age(hours=72)
    tasks.work_inbound()
    [event] = kept()
    assert event.outcome == "unmatched"
    return event


def link(event, key="thing_1", **more):
    return operations.link_event(
        **{
            "organization_id": event.organization_id,
            "inbound_event_id": event.id,
            "object_key": key,
            "reason": REASON,
            "idempotency_key": new_id().hex,
            "actor": Actor.staff(create_staff("finance_maker").pk),
            "now": clock.now(),
        }
        | more
    )


class TestLinking:
    def test_applies_the_event_there_and_then(self, organization, unmatched):
        appear(organization, "thing_1")

        linked = link(unmatched)

        assert (linked.outcome, linked.state, linked.linked_key) == ("applied", "done", "thing_1")
        assert standing(organization, "thing_1") == (3, ["msg_1"])
        assert OutboxEvent.objects.get(type="thing.changed").actor.startswith("staff:")
        assert invariants.breaches() == []

    def test_leaves_who_did_it_and_why(self, organization, unmatched):
        appear(organization, "thing_1")

        link(unmatched)

        row = AuditEvent.objects.get(act="webhooks.link_event")
        assert (row.actor_kind, row.reason) == ("staff", REASON)
        assert row.before == {"outcome": "unmatched", "object": "thing_unknown", "effect": ""}
        assert (row.after["outcome"], row.after["object"]) == ("applied", "thing_1")

    def test_is_by_rank_as_ever(self, organization, unmatched):
        appear(organization, "thing_1", rank=3)

        linked = link(unmatched)

        assert (linked.outcome, linked.state) == ("superseded", "done")
        assert standing(organization, "thing_1") == (3, [])

    def test_need_not_wait_for_three_days(self, organization, connection):
        tell(connection, message("thing.paid", "thing_unknown"))
        tasks.work_inbound()
        appear(organization, "thing_1")

        assert link(kept()[0]).outcome == "applied"

    def test_of_what_a_worker_has_leased_leaves_it_nothing_to_do(self, organization, unmatched):
        appear(organization, "thing_1")
        past_the_guards(
            "UPDATE webhooks_inboundevent SET state = 'pending', next_attempt_at = now()"
        )
        [leased] = work.claim_due(InboundEvent, limit=1, lease_seconds=60)

        link(unmatched)
        operations.work_event(claimed=leased, actor=Actor.job("late"), now=clock.now())

        assert standing(organization, "thing_1") == (3, ["msg_1"])
        assert kept()[0].outcome == "applied"

    def test_replayed_gives_the_first_outcome(self, organization, unmatched):
        appear(organization, "thing_1")
        call = partial(link, unmatched, idempotency_key="once", actor=Actor.job("tests"))

        outcomes = [each.outcome for each in race(*[call] * 4)]

        assert outcomes == ["applied"] * 4
        assert standing(organization, "thing_1") == (3, ["msg_1"])

    def test_by_two_people_at_once_links_it_once(self, organization, unmatched):
        for key in ("thing_1", "thing_2"):
            appear(organization, key)

        outcomes = race(partial(link, unmatched, "thing_1"), partial(link, unmatched, "thing_2"))

        [refused] = [each for each in outcomes if isinstance(each, Refusal)]
        assert refused.code == "inbound_event_settled"
        effects = [standing(organization, key)[1] for key in ("thing_1", "thing_2")]
        assert sorted(effects) == [[], ["msg_1"]]


class TestRefusing:
    @pytest.fixture(autouse=True)
    def _nothing_moves(self, known_things, organization, unmatched):
        appear(organization, "thing_1")
        yield
        assert standing(organization, "thing_1") == (0, [])
        assert kept()[0].outcome == "unmatched"
        assert AuditEvent.objects.filter(act="webhooks.link_event").count() == 0

    def test_a_role_that_may_not(self, unmatched):
        with pytest.raises(CapabilityMissing):
            link(unmatched, actor=Actor.staff(create_staff("support_lead").pk))

    def test_an_object_that_nobody_knows(self, unmatched):
        with pytest.raises(InboundObjectNotFound):
            link(unmatched, "thing_2")

        assert kept()[0].linked_key == ""

    def test_another_organizations_event(self, unmatched):
        with pytest.raises(InboundEventNotFound):
            link(unmatched, organization_id=create_organization().id)

    def test_another_organizations_object(self, unmatched):
        appear(create_organization(), "thing_2")

        with pytest.raises(InboundObjectNotFound):
            link(unmatched, "thing_2")

    def test_a_type_that_nobody_handles_any_more(self, unmatched, monkeypatch):
        monkeypatch.setattr(registry, "_handlers", {})

        with pytest.raises(InboundEventSettled):
            link(unmatched)

    def test_what_has_no_body_any_more(self, unmatched):
        age(hours=90 * 24)
        operations.purge_inbound_bodies()

        with pytest.raises(InboundBodyGone):
            link(unmatched)


@pytest.mark.parametrize("type_", ["thing.paid", "thing.renamed"])
def test_what_has_its_outcome_is_not_linked(organization, connection, type_):
    appear(organization, "thing_1")
    tell(connection, message(type_, "thing_1"))
    tasks.work_inbound()

    with pytest.raises(InboundEventSettled):
        link(kept()[0])


class TestKeeping:
    def event(self, connection, *, days, **more):
        """An event that came so many days ago, its id as old as it is."""
        at = clock.now() - timedelta(days=days)
        return InboundEvent.objects.create(
            id=UUID(int=(int(at.timestamp() * 1000) << 80) + (new_id().int & (1 << 80) - 1)),
            organization=connection.organization,
            connection=connection,
            provider="sandbox",
            type="thing.renamed",
            received_at=at,
            sealed_body=b"sealed",
            **{"event_id": f"msg_{days}", "state": "done", "outcome": "ignored"} | more,
        )

    def purge(self):
        list(tasks.purge_inbox("", clock.now()))

    def test_bodies_go_after_ninety_days_and_what_came_stays(self, connection):
        young, old = self.event(connection, days=89.9), self.event(connection, days=90.1)

        self.purge()

        young.refresh_from_db()
        old.refresh_from_db()
        assert (bytes(young.sealed_body), old.sealed_body) == (b"sealed", None)

    def test_an_event_whose_body_is_gone_is_still_known_when_it_is_repeated(self, connection):
        self.event(connection, days=399, event_id="msg_1")
        self.purge()

        assert tell(connection, message_id="msg_1").status_code == 200

        [event] = kept()
        assert event.outcome == "ignored"

    def test_all_of_it_goes_after_four_hundred_days(self, connection):
        self.event(connection, days=400.1)
        young = self.event(connection, days=399.9)

        self.purge()

        assert [event.id for event in kept()] == [young.id]

    @pytest.mark.parametrize("state", ["pending", "quarantined"])
    def test_what_is_still_to_be_worked_keeps_its_body_and_its_key(self, connection, state):
        event = self.event(connection, days=500, state=state, outcome="received")

        self.purge()

        event.refresh_from_db()
        assert bytes(event.sealed_body) == b"sealed"

    def test_goes_on_portion_by_portion(self, connection, monkeypatch):
        monkeypatch.setattr(operations._keeping, "PURGED_AT_ONCE", 2)
        monkeypatch.setattr(operations, "PURGED_AT_ONCE", 2)
        for number in range(5):
            self.event(connection, days=100, event_id=f"msg_{number}")
            self.event(connection, days=500, event_id=f"old_{number}")

        self.purge()

        assert [event.sealed_body for event in kept()] == [None] * 5
