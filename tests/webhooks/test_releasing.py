"""What nobody handled when it came is worked once somebody does, by rank and once."""

from __future__ import annotations

import threading
from functools import partial
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError

from apps.accounts.errors import CapabilityMissing
from apps.core import transactions, work
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.core.models import AuditEvent
from apps.webhooks import operations, registry
from apps.webhooks.errors import ConnectionNotFound, InboundTypeUnhandled
from apps.webhooks.models import InboundEvent
from tests.accounts.factories import create_organization, create_staff
from tests.support import past_the_guards, race, wait_until
from tests.webhooks.inbox import age, broken, connect, kept, outcomes, say, work_all
from tests.webhooks.test_parked import is_anybody_waiting
from tests.webhooks.things import appear, standing

REASON = "Payments take these since today."

pytestmark = pytest.mark.usefixtures("known_things")


@pytest.fixture
def ignored(connection, monkeypatch):
    """Have events come and be ignored, as before the deploy that brings their handler."""

    def come(*told, to=connection):
        with monkeypatch.context() as before:
            before.setattr(registry, "_handlers", {})
            for number, (type_, key) in enumerate(told):
                say(to, type_, key, message_id=f"msg_{number}")
            work_all()

    return come


def release(connection, type_="thing.paid", **more):
    return operations.release_ignored_events(
        **{
            "organization_id": connection.organization_id,
            "connection_id": connection.id,
            "type": type_,
            "reason": REASON,
            "idempotency_key": new_id().hex,
            "actor": Actor.staff(create_staff("finance_maker").pk),
        }
        | more
    )


class TestReleasing:
    def test_has_the_new_handler_work_what_was_kept(self, organization, connection, ignored):
        appear(organization, "thing_1")
        ignored(("thing.paid", "thing_1"))
        assert outcomes() == ["ignored"]

        assert release(connection) == 1

        [event] = kept()
        assert (event.state, event.outcome, event.attempts) == ("pending", "received", 0)
        assert event.decided_at is None
        assert [kind.name for kind in work.due_kinds()] == ["webhooks.inbound"]
        work_all()
        assert standing(organization, "thing_1") == (3, ["msg_0"])
        assert outcomes() == ["applied"]
        assert broken() == []

    def test_leaves_who_did_it_and_why(self, connection, ignored):
        ignored(("thing.paid", "thing_1"), ("thing.paid", "thing_2"))

        release(connection)

        row = AuditEvent.objects.get(act="webhooks.release_ignored")
        assert (row.actor_kind, row.reason, row.subject_id) == ("staff", REASON, str(connection.id))
        assert row.organization_id == connection.organization_id
        assert row.after == {"type": "thing.paid", "released": 2}

    @pytest.mark.parametrize("rank", [3, 4])
    def test_does_nothing_to_what_went_on_meanwhile(self, organization, connection, ignored, rank):
        appear(organization, "thing_1", rank=rank)
        ignored(("thing.paid", "thing_1"))

        release(connection)
        work_all()

        assert standing(organization, "thing_1") == (rank, [])
        assert outcomes() == ["superseded"]
        assert broken() == []

    def test_of_an_older_type_after_a_newer_one_takes_nothing_back(
        self, organization, connection, ignored
    ):
        appear(organization, "thing_1")
        ignored(("thing.funded", "thing_1"))
        say(connection, "thing.paid", message_id="msg_paid")
        work_all()

        release(connection, "thing.funded")
        work_all()

        assert standing(organization, "thing_1") == (3, ["msg_paid"])
        assert outcomes() == ["superseded", "applied"]
        assert broken() == []

    def test_is_of_one_type_of_one_connection(self, organization, connection, ignored):
        second, elsewhere = connect(organization), connect(create_organization())
        ignored(("thing.paid", "thing_1"), ("thing.funded", "thing_1"))
        past_the_guards("UPDATE webhooks_inboundevent SET event_id = 'first_' || event_id")
        ignored(("thing.paid", "thing_1"), to=second)
        ignored(("thing.paid", "thing_1"), to=elsewhere)

        assert release(connection) == 1

        [released] = InboundEvent.objects.filter(outcome="received")
        assert (released.connection_id, released.type) == (connection.id, "thing.paid")

    def test_of_what_nobody_knows_after_three_days_is_for_a_person(self, connection, ignored):
        ignored(("thing.paid", "thing_unknown"))
        age(hours=73)

        release(connection)
        work_all()

        [event] = kept()
        assert (event.state, event.outcome) == ("failed", "unmatched")
        assert broken() == []

    def test_goes_in_portions_the_oldest_first(self, connection, ignored, monkeypatch):
        monkeypatch.setattr(operations._releasing, "RELEASED_AT_ONCE", 2)
        ignored(*[("thing.paid", f"thing_{number}") for number in range(5)])

        assert release(connection) == 2
        assert outcomes() == ["received"] * 2 + ["ignored"] * 3
        assert [release(connection) for _ in range(3)] == [2, 1, 0]

    def test_again_is_ignored_again_where_the_handler_is_gone(
        self, connection, ignored, monkeypatch
    ):
        """A worker of the release before may take it: it is kept as it was."""
        ignored(("thing.paid", "thing_1"))
        release(connection)

        with monkeypatch.context() as older:
            older.setattr(registry, "_handlers", {})
            work_all()

        assert outcomes() == ["ignored"]
        assert release(connection) == 1


class TestReplayed:
    def test_releases_nothing_anew_and_says_the_first_number(self, connection, ignored):
        ignored(("thing.paid", "thing_1"), ("thing.paid", "thing_2"))
        call = partial(release, connection, idempotency_key="once", actor=Actor.job("tests"))
        assert call() == 2
        past_the_guards("UPDATE webhooks_inboundevent SET state = 'done', outcome = 'ignored'")

        assert call() == 2

        assert outcomes() == ["ignored"] * 2
        assert AuditEvent.objects.filter(act="webhooks.release_ignored").count() == 1


class TestRefusing:
    @pytest.fixture(autouse=True)
    def _nothing_moves(self, known_things, organization, ignored):
        appear(organization, "thing_1")
        ignored(("thing.paid", "thing_1"), ("thing.renamed", "thing_1"))
        yield
        work_all()
        assert [(event.state, event.outcome) for event in kept()] == [("done", "ignored")] * 2
        assert standing(organization, "thing_1") == (0, [])
        assert AuditEvent.objects.filter(act="webhooks.release_ignored").count() == 0

    def test_a_type_that_still_nobody_handles(self, connection):
        with pytest.raises(InboundTypeUnhandled) as refused:
            release(connection, "thing.renamed")

        assert refused.value.details == {"type": "thing.renamed"}

    def test_a_role_that_may_not(self, connection):
        with pytest.raises(CapabilityMissing):
            release(connection, actor=Actor.staff(create_staff("support_lead").pk))

    def test_another_organizations_connection(self, connection):
        with pytest.raises(ConnectionNotFound):
            release(connection, organization_id=create_organization().id)


class TestAtOnce:
    def test_by_two_people_releases_each_once(self, organization, connection, ignored):
        for number in range(20):
            appear(organization, f"thing_{number}")
        ignored(*[("thing.paid", f"thing_{number}") for number in range(20)])
        people = [Actor.staff(create_staff("finance_maker").pk) for _ in range(2)]

        numbers = race(*[partial(release, connection, actor=one) for one in people], work_all)
        work_all()

        assert sorted(numbers[:2]) == [0, 20]
        assert outcomes() == ["applied"] * 20
        assert {len(standing(organization, f"thing_{n}")[1]) for n in range(20)} == {1}

    def test_with_a_purge_of_bodies_works_what_can_be_read_and_leaves_the_rest(
        self, organization, connection, ignored
    ):
        for number in range(20):
            appear(organization, f"thing_{number}")
        ignored(*[("thing.paid", f"thing_{number}") for number in range(20)])
        age(hours=91 * 24)
        actor = Actor.job("tests")

        number, _ = race(partial(release, connection, actor=actor), operations.purge_inbound_bodies)
        work_all()

        found = {(event.outcome, event.sealed_body is None) for event in kept()}
        assert found <= {("applied", False), ("ignored", True)}
        assert outcomes().count("applied") == number
        assert broken() == []

    def test_keeps_the_body_of_what_a_purge_had_already_chosen(self, connection, ignored):
        ignored(("thing.paid", "thing_1"))
        age(hours=91 * 24)
        is_released = threading.Event()

        @transactions.outermost
        def release_while_a_purge_waits():
            InboundEvent.objects.update(outcome="received", state="pending")
            is_released.set()
            wait_until(is_anybody_waiting)

        def purge():
            assert is_released.wait(30)
            return operations.purge_inbound_bodies()

        _, purged = race(release_while_a_purge_waits, purge)

        assert purged == 0
        assert kept()[0].sealed_body is not None

    def test_of_what_has_no_body_any_more_leaves_it(self, connection, ignored):
        ignored(("thing.paid", "thing_1"))
        age(hours=91 * 24)
        assert operations.purge_inbound_bodies() == 1

        assert release(connection) == 0

        assert outcomes() == ["ignored"]


class TestTheTable:
    """Round the operation: what was ignored comes back in one way alone."""

    @pytest.fixture(autouse=True)
    def _ignored(self, known_things, ignored):
        ignored(("thing.paid", "thing_1"))

    @pytest.mark.parametrize("outcome", ["applied", "superseded", "parked", "unmatched"])
    def test_refuses_any_other_move(self, outcome):
        with pytest.raises(IntegrityError, match="ignored does not become"):
            InboundEvent.objects.update(outcome=outcome, state="pending")

    @pytest.mark.parametrize("state", ["leased", "quarantined", "paused", "failed", "done"])
    def test_refuses_another_state(self, state):
        with pytest.raises(IntegrityError, match="comes back pending"):
            InboundEvent.objects.update(outcome="received", state=state)

    def test_refuses_what_cannot_be_read(self):
        with pytest.raises(IntegrityError, match="with its body"):
            InboundEvent.objects.update(outcome="received", state="pending", sealed_body=None)

    @pytest.mark.parametrize("outcome", ["applied", "superseded"])
    def test_lets_nothing_else_come_back(self, organization, connection, outcome):
        appear(organization, "thing_2", rank={"applied": 0, "superseded": 3}[outcome])
        say(connection, "thing.paid", "thing_2")
        work_all()
        assert outcomes() == ["ignored", outcome]

        with pytest.raises(IntegrityError, match=f"{outcome} does not become received"):
            InboundEvent.objects.filter(outcome=outcome).update(outcome="received", state="pending")


class TestCommand:
    def run(self, **more):
        told = StringIO()
        call_command("release_ignored", stdout=told, **more)
        return told.getvalue()

    def test_lists_what_is_handled_by_now(self, connection, ignored):
        ignored(("thing.paid", "a"), ("thing.paid", "b"), ("thing.renamed", "c"))

        assert self.run() == f"sandbox {encode_id('pvc', connection.id)} thing.paid: 2 kept\n"
        assert self.run(provider="another") == ""

    def test_releases_with_a_reason_what_every_organization_has(self, connection, ignored):
        elsewhere = connect(create_organization())
        for to in (connection, elsewhere):
            ignored(("thing.paid", "thing_1"), to=to)
        with pytest.raises(CommandError, match="--reason"):
            self.run(provider="sandbox", type="thing.paid")

        told = self.run(provider="sandbox", type="thing.paid", reason=REASON)

        assert told.splitlines() == [
            f"sandbox {encode_id('pvc', one.id)} thing.paid: 1 due now"
            for one in sorted((connection, elsewhere), key=lambda one: one.organization_id)
        ]
        assert outcomes() == ["received"] * 2
        assert self.run(provider="sandbox", type="thing.paid", reason=REASON) == ""
        row = AuditEvent.objects.filter(act="webhooks.release_ignored").first()
        assert row.principal.startswith("shell:")

    def test_says_that_nobody_handles_a_type(self, connection, ignored):
        ignored(("thing.renamed", "thing_1"))

        with pytest.raises(CommandError, match="Nothing handles"):
            self.run(provider="sandbox", type="thing.renamed", reason=REASON)

        assert outcomes() == ["ignored"]
