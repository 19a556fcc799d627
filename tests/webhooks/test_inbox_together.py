"""Events that share a transaction end as each by itself would, whoever fails among them."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from apps.core import clock, work
from apps.core.models import OutboxBatch, OutboxEvent
from apps.core.work import _outcomes
from apps.webhooks import operations, registry
from apps.webhooks.models import InboundEvent
from apps.webhooks.tasks import _inbox
from tests.accounts.factories import create_organization
from tests.support import race
from tests.webhooks import things
from tests.webhooks.factories import TESTS
from tests.webhooks.inbox import (
    PRIVATE,
    broken,
    connect,
    kept,
    make_due,
    message,
    outcomes,
    say,
    tell,
    work_all,
)
from tests.webhooks.things import (
    Failing,
    NotNow,
    Things,
    appear,
    are_final,
    standing,
    tell_each,
    tell_of,
)


@pytest.fixture(autouse=True)
def _together(known_things, monkeypatch):
    things.register(Things(), together=True)
    # A second is less than all of it takes on a busy machine, and then it would be tried again.
    monkeypatch.setattr(_outcomes, "_RETRY_DELAYS_SECONDS", (600,))


class TestTogether:
    def test_are_one_transaction_and_one_batch_of_ours(self, organization, connection):
        tell_of(30, organization, connection)

        with CaptureQueriesContext(database) as queries:
            work_all()

        assert outcomes() == ["applied"] * 30
        assert standing(organization, "thing_7") == (3, ["msg_7"])
        assert OutboxBatch.objects.filter(event_count=30).count() == 1
        # The claim, two statements of the handler for each, and all of the rest.
        assert len(queries) < 30 * 2 + 15
        told = {event.aggregate_id: event for event in OutboxEvent.objects.all()}
        for event in kept():
            assert (event.state, event.rank, event.effect_sequence) == ("done", 3, 1)
            assert told[event.effect_id].traceparent == event.traceparent
        assert broken() == []

    def test_about_one_object_are_by_rank_in_every_order(self, organization, connection):
        for number, order in enumerate(itertools.permutations(things.RANKS)):
            tell_each(organization, connection, number, order)

        work_all()

        assert are_final(24, organization)
        assert set(outcomes()) == {"applied", "superseded"}
        assert broken() == []

    def test_worked_by_many_at_once_have_one_effect_each(self, organization, connection):
        for number in range(20):
            tell_each(organization, connection, number)

        race(*[work_all] * 4)
        work_all()

        assert are_final(20, organization)
        assert InboundEvent.objects.filter(state="done").count() == 80
        assert broken() == []

    def test_are_of_one_organization(self, organization, connection):
        other = create_organization()
        tell_of(3, organization, connection)
        tell_of(3, other, connect(other))

        work_all()

        assert outcomes() == ["applied"] * 6
        assert OutboxBatch.objects.filter(event_count=3).count() == 2
        assert standing(organization, "thing_0") == standing(other, "thing_0") == (3, ["msg_0"])

    def test_leave_out_what_is_about_nobody(self, organization, connection):
        tell_of(3, organization, connection)
        say(connection, "thing.paid", "thing_unknown")

        work_all()

        assert outcomes() == ["applied"] * 3 + ["parked"]
        assert kept()[-1].last_error_code == "object_unknown"
        appear(organization, "thing_unknown")
        work_all()
        assert outcomes() == ["applied"] * 4

    def test_may_be_ignored_beside_others(self, organization, connection):
        tell_of(2, organization, connection)
        say(connection, "thing.renamed")
        tell(connection, b"not json")

        work_all()

        assert outcomes() == ["applied"] * 2 + ["ignored"] * 2
        assert [event.state for event in kept()] == ["done"] * 4

    def test_wait_where_this_release_knows_no_such_provider(
        self, organization, connection, monkeypatch
    ):
        tell_of(2, organization, connection)
        monkeypatch.setattr(registry, "_providers", {})

        work_all()

        assert [event.last_error_code for event in kept()] == ["provider_unknown"] * 2
        assert standing(organization, "thing_0") == (0, [])

    def test_that_take_too_long_are_worked_one_by_one(self, organization, connection, monkeypatch):
        monkeypatch.setattr(operations._inbox, "_SHARED_SECONDS_MAX", 0.0)
        tell_of(3, organization, connection)

        work_all()

        assert outcomes() == ["applied"] * 3
        assert OutboxBatch.objects.filter(event_count=1, public=True).count() >= 3

    def test_are_not_those_whose_handler_was_not_said_to_share(self, organization, connection):
        things.register(Things())
        tell_of(3, organization, connection)

        work_all()

        assert outcomes() == ["applied"] * 3
        assert OutboxBatch.objects.filter(event_count=3).count() == 0

    def test_are_short(self, organization, connection):
        tell_of(2, organization, connection)
        for number in range(2):
            appear(organization, f"long_{number}")
            tell(connection, message("thing.paid", f"long_{number}", more="x" * 70_000))

        work_all()

        assert outcomes() == ["applied"] * 4
        assert OutboxBatch.objects.filter(event_count=2).count() == 1


class TestFaults:
    def test_of_one_undo_nothing_of_the_others(self, organization, connection):
        registry.register_inbound(
            provider="sandbox", type="thing.funded", handler=Failing(), together=True
        )
        tell_of(30, organization, connection, but=7)

        work_all()

        assert outcomes().count("applied") == 29
        [failed] = [event for event in kept() if event.state != "done"]
        assert (failed.object_key, failed.attempts, failed.last_error_code) == (
            "thing_7",
            1,
            "ValueError",
        )
        assert broken() == []

    def test_after_the_effect_of_another_take_none_of_it_twice(self, organization, connection):
        class Breaking(Things):
            def apply(self, subject, message):
                told = super().apply(subject, message)
                if message.event_id == "msg_2":
                    raise NotNow("Not now.")
                return told

        things.register(Breaking(), together=True)
        tell_of(4, organization, connection)

        work_all()

        assert outcomes() == ["applied", "applied", "received", "applied"]
        assert standing(organization, "thing_2") == (0, [])
        assert [standing(organization, f"thing_{n}")[1] for n in (0, 1, 3)] == [
            ["msg_0"],
            ["msg_1"],
            ["msg_3"],
        ]
        assert kept()[2].last_error_code == "not_now_of_tests"
        things.register(Things(), together=True)
        make_due()
        work_all()
        assert outcomes() == ["applied"] * 4

    def test_never_tell_the_log_what_the_provider_wrote(
        self, organization, connection, caplog, capfd
    ):
        things.register(Failing(), together=True)
        with caplog.at_level("DEBUG"):
            tell_of(2, organization, connection)
            work_all()

        said = caplog.text + "".join(capfd.readouterr())
        assert "work_split" in said
        assert "things.py" in said
        assert "Lovelace" not in said
        assert PRIVATE not in said

    def test_tried_before_are_worked_alone(self, organization, connection):
        tell_of(2, organization, connection)
        claimed = work.claim_due(InboundEvent, limit=2, lease_seconds=60)

        assert {_inbox._alike(event) for event in claimed} == {organization.id}
        make_due()
        again = work.claim_due(InboundEvent, limit=2, lease_seconds=60)
        assert {_inbox._alike(event) for event in again} == {None}

    def test_who_lost_a_lease_changes_nothing_of_that_one(self, organization, connection):
        tell_of(3, organization, connection)
        slow = work.claim_due(InboundEvent, limit=3, lease_seconds=60)
        InboundEvent.objects.filter(id=slow[0].id).update(next_attempt_at=clock.now())
        work_all()
        assert outcomes().count("applied") == 1

        told = operations.work_events(claimed=slow, actor=TESTS, now=clock.now())

        assert told == (2, [])
        assert outcomes() == ["applied"] * 3
        assert {len(standing(organization, f"thing_{n}")[1]) for n in range(3)} == {1}

    def test_crashed_between_claim_and_record_lose_nothing(self, organization, connection):
        tell_of(5, organization, connection)
        work.claim_due(InboundEvent, limit=5, lease_seconds=60)
        work_all()
        assert set(outcomes()) == {"received"}

        for _ in range(5):
            make_due()
            work_all()

        assert outcomes() == ["applied"] * 5
        assert broken() == []

    def test_of_a_race_with_who_makes_objects_known_lose_none(self, organization, connection):
        for number in range(8):
            say(connection, "thing.paid", f"thing_{number}")

        race(
            *(partial(appear, organization, f"thing_{number}") for number in range(8)),
            *[work_all] * 2,
        )
        make_due()
        work_all()

        assert outcomes() == ["applied"] * 8
