"""The audit trail: in the transaction of the act, and for good."""

import pytest
from django.db import DatabaseError

from apps.core import audit, context, transactions
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken, RuleViolation
from apps.core.ids import new_id
from apps.core.models import AuditEvent, EventWork
from tests.core.events_of_tests import ORGANIZATION

pytestmark = pytest.mark.django_db(transaction=True)

ANN = Actor.staff(new_id())


@transactions.outermost
def act(subject=("cup", "1"), *, refuse=False, actor=ANN, **more):
    audit.record("tests.act", subject, actor=actor, **more)
    if refuse:
        raise RuleViolation("No.")


class TestRecord:
    def test_says_who_did_what_to_what_and_why(self):
        context.begin(request_id="req_1")

        act(reason="Because.", before={"cups": 1}, after={"cups": 2}, organization_id=ORGANIZATION)

        row = AuditEvent.objects.get()
        assert (row.actor_kind, row.actor_id, row.principal) == ("staff", ANN.id, str(ANN))
        assert (row.act, row.subject_type, row.subject_id) == ("tests.act", "cup", "1")
        assert (row.reason, row.before, row.after) == ("Because.", {"cups": 1}, {"cups": 2})
        assert (row.organization_id, row.request_id) == (ORGANIZATION, "req_1")
        assert row.recorded_at is not None

    def test_takes_type_id_and_organization_from_a_row(self):
        subject = EventWork(organization_id=ORGANIZATION, batch_id=new_id(), consumer="tests")

        act(subject)

        row = AuditEvent.objects.get()
        assert (row.subject_type, row.subject_id) == ("core.eventwork", str(subject.id))
        assert row.organization_id == ORGANIZATION

    def test_keeps_the_person_behind_a_key(self):
        act(actor=Actor(kind="api_key", id="k1", principal=str(ANN)))

        row = AuditEvent.objects.get()
        assert (row.actor_kind, row.actor_id, row.principal) == ("api_key", "k1", str(ANN))

    def test_goes_with_a_refused_act(self):
        with pytest.raises(RuleViolation):
            act(refuse=True)

        assert not AuditEvent.objects.exists()

    def test_is_refused_outside_an_operation(self):
        with pytest.raises(InvariantBroken):
            audit.record("tests.act", ("cup", "1"), actor=ANN)

    def test_is_never_changed(self):
        act()

        with pytest.raises(DatabaseError, match="append-only"):
            AuditEvent.objects.update(reason="Another.")
        with pytest.raises(DatabaseError, match="append-only"):
            AuditEvent.objects.all().delete()


class TestActor:
    def test_prints_as_kind_and_id(self):
        assert str(Actor.job("sweeper")) == "job:sweeper" == Actor.job("sweeper").principal
        assert str(Actor.staff("7")) == "staff:7" == Actor.staff("7").principal

    def test_is_a_value(self):
        assert Actor.job("a") == Actor.job("a") != Actor.job("b")
