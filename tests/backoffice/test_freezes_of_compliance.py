"""A freeze that compliance set is lifted by compliance alone."""

from datetime import timedelta
from functools import partial

import pytest
from django.db import IntegrityError, connection
from django.db.migrations.loader import MigrationLoader

from apps.accounts import errors as account_errors
from apps.accounts.models import Customer, StaffRole
from apps.approvals import errors as approval_errors
from apps.approvals.models import ApprovalRequest
from apps.approvals.rules import Policy, Step
from apps.approvals.states import Verdict
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.core.models import AuditEvent
from tests.backoffice.freezing import (
    LATER,
    NOW,
    ask,
    decide,
    freeze,
    is_of_compliance,
    put_in_force,
    state,
    told,
)
from tests.payouts import people
from tests.support import race

LOOKED_AT = ("accounts", "0006_freezes_from_before")

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def customer():
    return people.customer(people.organization())


@pytest.fixture
def frozen(customer):
    return freeze(customer, people.staff("support"))


class TestAFreezeOfCompliance:
    @pytest.fixture
    def theirs(self, customer):
        return freeze(customer, people.staff("compliance"))

    def test_is_lifted_by_two_of_compliance(self, theirs):
        asked = ask(theirs, people.staff("compliance"))

        decide(theirs, asked, people.staff("compliance"))

        assert (state(theirs), is_of_compliance(theirs)) == ("open", False)

    @pytest.mark.parametrize("role", ["support_lead", "risk_analyst", "risk_manager"])
    def test_is_not_for_others_to_ask(self, theirs, role):
        with pytest.raises(account_errors.FreezeOfCompliance):
            ask(theirs, people.staff(role))

        assert not ApprovalRequest.objects.exists()

    @pytest.mark.parametrize("verdict", [Verdict.APPROVE, Verdict.DENY])
    def test_is_not_for_others_to_decide(self, theirs, verdict):
        asked = ask(theirs, people.staff("compliance"))

        with pytest.raises(approval_errors.MayNotDecide):
            decide(theirs, asked, people.staff("risk_manager"), verdict)

        assert (state(theirs), ApprovalRequest.objects.get().state) == ("frozen", "open")

    def test_is_not_for_others_whatever_a_policy_asks(self, theirs):
        put_in_force(theirs, Policy(otherwise=(Step("risk_manager", 1),)))
        asked = ask(theirs, people.staff("compliance"))

        with pytest.raises(account_errors.FreezeOfCompliance):
            decide(theirs, asked, people.staff("risk_manager"))

        assert state(theirs) == "frozen"
        assert ApprovalRequest.objects.get(pk=asked.approval_id).state == "open"

    def test_is_not_lifted_for_who_is_of_them_no_more(self, theirs):
        maker = people.staff("compliance", "risk_manager")
        asked = ask(theirs, maker)
        StaffRole.objects.filter(staff_id=maker.id, role="compliance").delete()

        with pytest.raises(account_errors.FreezeOfCompliance):
            decide(theirs, asked, people.staff("compliance"))
        assert state(theirs) == "frozen"

    def test_is_lifted_for_who_has_left(self, theirs):
        maker = people.staff("compliance")
        asked = ask(theirs, maker)
        people.deactivate(maker)

        decide(theirs, asked, people.staff("compliance"))

        assert state(theirs) == "open"

    def test_stays_theirs_though_the_person_changes_roles(self, customer):
        person = people.staff("compliance")
        freeze(customer, person)
        StaffRole.objects.filter(staff_id=person.id).update(role="support")

        with pytest.raises(account_errors.FreezeOfCompliance):
            ask(customer, people.staff("support_lead"))

    def test_is_none_of_somebody_who_joined_them_later(self, customer):
        person = people.staff("support")
        freeze(customer, person)
        StaffRole.objects.filter(staff_id=person.id).update(role="compliance")

        assert ask(customer, people.staff("support_lead")).state == "open"

    def test_is_none_of_a_key_that_one_of_them_issued(self, customer):
        issuer = people.staff("compliance")
        freeze(customer, Actor(kind="api_key", id=str(new_id()), principal=issuer.principal))

        assert not is_of_compliance(customer)
        assert ask(customer, people.staff("support_lead")).state == "open"

    def test_is_not_undone_by_others_who_freeze_as_well(self, theirs):
        freeze(theirs, people.staff("support"), now=LATER)

        assert is_of_compliance(theirs)
        assert Customer.objects.get(pk=theirs.pk).frozen_at == NOW

    def test_is_one_from_before_of_who_is_of_them_now(self, theirs):
        others = freeze(people.customer(people.organization()), people.staff("support"))
        Customer.objects.update(is_frozen_by_compliance=False)
        [statement, _] = MigrationLoader(connection).get_migration(*LOOKED_AT).operations

        with connection.cursor() as cursor:
            cursor.execute(statement.sql)

        assert (is_of_compliance(theirs), is_of_compliance(others)) == (True, False)

    def test_stands_on_no_customer_that_is_open(self, customer):
        with pytest.raises(IntegrityError, match="customer_of_compliance_is_not_open"):
            Customer.objects.filter(pk=customer.pk).update(is_frozen_by_compliance=True)


class TestAFreezeThatComplianceTakesOver:
    def test_is_theirs_and_what_others_asked_is_void(self, frozen):
        asked, officer = ask(frozen, people.staff("support_lead")), people.staff("compliance")

        freeze(frozen, officer, now=LATER)

        now_theirs = Customer.objects.get(pk=frozen.pk)
        assert (now_theirs.frozen_at, now_theirs.frozen_by) == (LATER, officer.principal)
        assert ApprovalRequest.objects.get().state == "withdrawn"
        with pytest.raises(approval_errors.ApprovalClosed):
            decide(frozen, asked, people.staff("compliance"), now=LATER)
        with pytest.raises(account_errors.FreezeOfCompliance):
            ask(frozen, people.staff("support_lead"), now=LATER)

    def test_is_told_in_the_trail_and_to_no_client(self, frozen):
        freeze(frozen, people.staff("compliance"), now=LATER)

        trail = AuditEvent.objects.filter(act="accounts.freeze_customer").latest("id")
        assert trail.before == {"frozen_at": str(NOW), "frozen_by": frozen.frozen_by}
        assert told(frozen) == ["created", "frozen"]

    def test_is_taken_over_once(self, frozen):
        freeze(frozen, people.staff("compliance"), now=LATER)

        freeze(frozen, people.staff("compliance"), now=LATER + timedelta(hours=1))

        assert Customer.objects.get(pk=frozen.pk).frozen_at == LATER
        assert AuditEvent.objects.filter(act="accounts.freeze_customer").count() == 2

    @pytest.mark.parametrize("turn", range(10))
    def test_stays_theirs_whoever_decides_meanwhile(self, frozen, turn):
        asked, manager = ask(frozen, people.staff("support_lead")), people.staff("risk_manager")
        officer = people.staff("compliance")

        decided, _ = race(
            partial(decide, frozen, asked, manager), partial(freeze, frozen, officer, now=LATER)
        )

        # Lifted first and frozen anew, or withdrawn first: compliance's freeze stands either way.
        assert (state(frozen), is_of_compliance(frozen)) == ("frozen", True)
        was_lifted = not isinstance(decided, approval_errors.ApprovalClosed)
        assert told(frozen) == ["created", "frozen"] + ["unfrozen", "frozen"] * was_lifted
