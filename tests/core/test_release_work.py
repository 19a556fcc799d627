"""Work that was set aside comes back by a person's word, with a reason."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.core import operations, work
from apps.core.actors import Actor
from apps.core.errors import NotFound, StateConflict
from apps.core.ids import new_id
from apps.core.models import AuditEvent, EventWork
from tests.core.events_of_tests import ORGANIZATION
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

ANN = Actor.staff(new_id())


def set_aside(state="quarantined") -> EventWork:
    return EventWork.objects.create(
        organization_id=ORGANIZATION,
        batch_id=new_id(),
        consumer="tests",
        state=state,
        attempts=12,
        last_error_code="consumer_failed",
    )


def release(row, kind_name="core.consume"):
    operations.release_work(kind_name=kind_name, row_id=row.id, reason="Mended.", actor=ANN)


class TestReleaseWork:
    @pytest.mark.parametrize("state", ["quarantined", "failed", "paused"])
    def test_makes_the_row_due_and_says_who_and_why(self, state):
        row = set_aside(state)

        release(row)

        assert [kind.name for kind in work.due_kinds()] == ["core.consume"]
        trail = AuditEvent.objects.get()
        assert (trail.act, trail.principal, trail.reason) == (
            "core.requeue_work",
            str(ANN),
            "Mended.",
        )
        assert (trail.subject_id, trail.organization_id) == (str(row.id), ORGANIZATION)
        assert trail.before == {
            "state": state,
            "attempts": 12,
            "lapses": 0,
            "error": "consumer_failed",
        }
        assert trail.after == {
            "state": "pending",
            "attempts": 0,
            "lapses": 0,
            "error": "consumer_failed",
        }

    @pytest.mark.parametrize("state", ["pending", "leased", "done"])
    def test_refuses_what_is_not_set_aside(self, state):
        row = set_aside(state)

        with pytest.raises(StateConflict) as refused:
            release(row)

        assert refused.value.details == {"state": state}
        assert not AuditEvent.objects.exists()

    def test_refuses_what_is_not_there(self):
        row = set_aside()

        for kind_name, id_ in (("core.nothing", row.id), ("core.consume", new_id())):
            with pytest.raises(NotFound):
                operations.release_work(kind_name=kind_name, row_id=id_, reason="x", actor=ANN)

    def test_by_two_at_once_is_done_once(self):
        row = set_aside()

        outcomes = race(*[lambda: release(row)] * 2)

        assert sorted(type(outcome).__name__ for outcome in outcomes) == [
            "NoneType",
            "StateConflict",
        ]
        assert AuditEvent.objects.count() == 1


class TestCommand:
    def test_lists_what_waits(self):
        row, told = set_aside(), StringIO()

        call_command("release_work", stdout=told)

        assert told.getvalue() == (
            f"core.consume {row.id} quarantined, 12 attempts, consumer_failed\n"
        )

    def test_releases_with_a_reason_only(self):
        row = set_aside()
        with pytest.raises(CommandError, match="--reason"):
            call_command("release_work", kind="core.consume", row=row.id)

        call_command("release_work", kind="core.consume", row=row.id, reason="Mended.")

        assert EventWork.objects.get().state == "pending"
        with pytest.raises(CommandError, match="not set aside"):
            call_command("release_work", kind="core.consume", row=row.id, reason="Again.")
