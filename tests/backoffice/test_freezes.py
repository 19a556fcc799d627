"""A customer's freeze is lifted by two people: asked for by one, decided by another."""

from datetime import timedelta
from functools import partial

import pytest

from apps.accounts import errors as account_errors
from apps.accounts.models import Customer
from apps.approvals import errors as approval_errors
from apps.approvals import operations as approvals
from apps.approvals.models import ApprovalRequest
from apps.approvals.rules import Policy
from apps.approvals.states import Verdict
from apps.backoffice import errors, operations
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.core.models import AuditEvent
from apps.ledger.errors import TwoPeopleNeeded
from apps.payouts import errors as payout_errors
from apps.payouts import operations as payouts
from apps.payouts.models import Payout
from tests.accounts.factories import create_staff
from tests.backoffice.freezing import (
    LATER,
    NOW,
    WHY,
    ask,
    decide,
    freeze,
    put_in_force,
    state,
    told,
)
from tests.payouts import factories, people
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def customer():
    return people.customer(people.organization())


@pytest.fixture
def frozen(customer):
    return freeze(customer, people.staff("support"))


class TestRequestUnfreeze:
    @pytest.mark.parametrize("asks", ["support_lead", "risk_analyst", "risk_manager", "compliance"])
    @pytest.mark.parametrize("decides", ["risk_manager", "compliance"])
    def test_lifts_it_once_another_person_agrees(self, frozen, asks, decides):
        maker, decider = people.staff(asks), people.staff(decides)

        asked = ask(frozen, maker)
        assert (asked.state, state(frozen)) == ("open", "frozen")
        decide(frozen, asked, decider)

        lifted = Customer.objects.get(pk=frozen.pk)
        assert (lifted.state, lifted.frozen_at, lifted.frozen_by) == ("open", None, "")
        assert told(frozen) == ["created", "frozen", "unfrozen"]
        trail = AuditEvent.objects.filter(subject_id=str(frozen.pk), act__contains="unfreeze")
        assert list(trail.order_by("id").values_list("act", "principal", "reason")) == [
            ("accounts.ask_to_unfreeze_customer", maker.principal, WHY),
            (operations.UNFREEZE_ACT, decider.principal, "Called them back"),
        ]

    def test_denied_leaves_it_frozen_and_may_be_asked_anew(self, frozen):
        asked = ask(frozen, people.staff("support_lead"))

        decide(frozen, asked, people.staff("risk_manager"), Verdict.DENY)

        assert state(frozen) == "frozen"
        assert ask(frozen, people.staff("support_lead")).approval_id != asked.approval_id

    def test_that_nobody_decided_in_time_may_be_asked_anew_without_a_sweeper(self, frozen):
        asked = ask(frozen, people.staff("support_lead"))
        over = NOW + approvals.APPROVAL_LIFE

        with pytest.raises(errors.UnfreezingAskedForAlready):
            ask(frozen, people.staff("support_lead"), now=over - timedelta(seconds=1))
        again = ask(frozen, people.staff("support_lead"), now=over)

        states = dict(ApprovalRequest.objects.values_list("id", "state"))
        assert states == {asked.approval_id: "expired", again.approval_id: "open"}
        assert state(frozen) == "frozen"

    def test_is_not_decided_by_who_asked(self, frozen):
        manager = people.staff("risk_manager")
        asked = ask(frozen, manager)

        with pytest.raises(approval_errors.CannotApproveOwn):
            decide(frozen, asked, manager)
        assert state(frozen) == "frozen"

    @pytest.mark.parametrize("role", ["support_lead", "risk_analyst", "finance_approver"])
    def test_is_not_decided_by_who_may_not(self, frozen, role):
        asked = ask(frozen, people.staff("support_lead"))

        with pytest.raises(account_errors.CapabilityMissing):
            decide(frozen, asked, people.staff(role))
        assert state(frozen) == "frozen"

    @pytest.mark.parametrize("role", ["support", "finance_approver", "auditor", "admin"])
    def test_is_not_asked_by_who_may_not(self, frozen, role):
        with pytest.raises(account_errors.CapabilityMissing):
            ask(frozen, people.staff(role))

        assert not ApprovalRequest.objects.exists()

    def test_is_asked_by_no_key(self, frozen):
        manager = people.staff("risk_manager")

        with pytest.raises(account_errors.CapabilityMissing):
            ask(frozen, Actor(kind="api_key", id="ak_1", principal=manager.principal))

        assert not ApprovalRequest.objects.exists()

    @pytest.mark.parametrize("what", ["open", "closed"])
    def test_of_a_customer_that_is_not_frozen_is_refused(self, customer, what):
        Customer.objects.filter(pk=customer.pk).update(state=what)

        with pytest.raises(account_errors.CustomerNotFrozen) as refused:
            ask(customer, people.staff("support_lead"))

        assert refused.value.code == "customer_not_frozen"
        assert refused.value.details == {"state": what}
        assert not ApprovalRequest.objects.exists()

    def test_of_another_organization_is_not_found(self, frozen):
        frozen.organization_id = people.organization("Other").id

        with pytest.raises(account_errors.CustomerNotFound):
            ask(frozen, people.staff("support_lead"))

    def test_out_of_ones_scope_is_not_found(self, frozen):
        outside = Actor.staff(create_staff("support_lead", sees_all=False).pk)

        with pytest.raises(account_errors.OrganizationNotFound):
            ask(frozen, outside)

    def test_again_with_its_key_is_the_same_request(self, frozen):
        maker = people.staff("support_lead")
        first = ask(frozen, maker, key="k")

        assert ask(frozen, maker, key="k") == first
        decide(frozen, first, people.staff("risk_manager"))

        # Also once it is lifted, and nothing is asked again.
        assert ask(frozen, maker, key="k").state == "approved"
        assert ApprovalRequest.objects.count() == 1

    def test_decided_again_with_its_key_changes_nothing(self, frozen):
        asked, manager = ask(frozen, people.staff("support_lead")), people.staff("risk_manager")
        decide(frozen, asked, manager, key="k")
        freeze(frozen, people.staff("support"), now=LATER)

        assert decide(frozen, asked, manager, key="k", now=LATER).state == "approved"
        assert state(frozen) == "frozen"

    def test_while_one_waits_is_refused(self, frozen):
        first = ask(frozen, people.staff("support_lead"))

        with pytest.raises(errors.UnfreezingAskedForAlready) as refused:
            ask(frozen, people.staff("risk_manager"))

        assert refused.value.details == {"approval": encode_id("apr", first.approval_id)}

    @pytest.mark.parametrize("turn", range(5))
    def test_of_two_at_once_makes_one_request(self, frozen, turn):
        outcomes = race(*(partial(ask, frozen, people.staff("support_lead")) for _ in range(2)))

        names = sorted(type(outcome).__name__ for outcome in outcomes)
        assert names == ["AskedFor", "UnfreezingAskedForAlready"]
        assert ApprovalRequest.objects.count() == 1

    @pytest.mark.parametrize("turn", range(5))
    def test_of_two_that_decide_at_once_lifts_it_once(self, frozen, turn):
        asked = ask(frozen, people.staff("support_lead"))
        deciders = [people.staff(role) for role in ("risk_manager", "compliance")]

        outcomes = race(*(partial(decide, frozen, asked, one) for one in deciders))

        names = sorted(type(outcome).__name__ for outcome in outcomes)
        assert names == ["ApprovalClosed", "ApprovalRequest"]
        assert told(frozen) == ["created", "frozen", "unfrozen"]

    def test_is_over_after_three_days(self, frozen):
        late = NOW + timedelta(hours=72)
        asked = ask(frozen, people.staff("support_lead"))

        with pytest.raises(approval_errors.ApprovalExpired):
            decide(frozen, asked, people.staff("risk_manager"), now=late)

        assert state(frozen) == "frozen"
        assert ask(frozen, people.staff("support_lead"), now=late).state == "open"

    def test_under_a_policy_that_asks_nobody_is_refused(self, frozen):
        put_in_force(frozen, Policy())

        with pytest.raises(TwoPeopleNeeded):
            ask(frozen, people.staff("support_lead"))
        assert state(frozen) == "frozen"


class TestStale:
    def test_another_freeze_than_was_asked_about_is_asked_about_anew(self, frozen):
        maker = people.staff("support_lead")
        asked = ask(frozen, maker)
        Customer.objects.filter(pk=frozen.pk).update(frozen_at=NOW + timedelta(microseconds=1))

        with pytest.raises(approval_errors.ApprovalStale):
            decide(frozen, asked, people.staff("risk_manager"))

        assert state(frozen) == "frozen"
        assert ApprovalRequest.objects.get(pk=asked.approval_id).state == "stale"
        renewed = ApprovalRequest.objects.get(state="open")
        assert renewed.requester_principal == maker.principal

    @pytest.mark.parametrize("what", ["open", "closed"])
    def test_a_customer_that_is_not_frozen_any_more_is_left_as_it_is(self, frozen, what):
        asked = ask(frozen, people.staff("support_lead"))
        Customer.objects.filter(pk=frozen.pk).update(state=what, frozen_at=None, frozen_by="")

        with pytest.raises(approval_errors.ApprovalStale):
            decide(frozen, asked, people.staff("risk_manager"))

        assert state(frozen) == what
        assert told(frozen) == ["created", "frozen"]

    def test_what_a_later_policy_asks_nobody_about_no_job_lifts(self, frozen):
        asked = ask(frozen, people.staff("support_lead"))
        put_in_force(frozen, Policy())
        Customer.objects.filter(pk=frozen.pk).update(frozen_at=LATER)

        with pytest.raises(account_errors.CapabilityMissing):
            decide(frozen, asked, people.staff("risk_manager"))

        assert state(frozen) == "frozen"


class TestPayoutsOfAFrozenCustomer:
    @pytest.fixture
    def met(self, settings):
        """A payout of a frozen customer that a cut-off met: it is held."""
        settings.PAYOUT_COOLDOWN_HOURS = 0
        home = factories.world()
        customer = factories.customer_with(home, 5_000_00)
        payout = factories.request(home, factories.destination(home, customer), 100_00)
        freeze(customer, people.staff("support"))
        assert factories.freeze(payout) is None
        return home, customer, payout

    def test_that_a_cut_off_met_are_released_one_by_one(self, met):
        home, customer, met = met
        met.refresh_from_db()
        assert (met.state, met.hold_reasons) == ("held", ["payouts_paused"])

        decide(customer, ask(customer, people.staff("support_lead")), people.staff("compliance"))

        met.refresh_from_db()
        assert met.state == "held"
        released = payouts.release_payout(
            organization_id=home.id, payout_id=met.id, hold_reason="payouts_paused",
            reason="The freeze was lifted", idempotency_key="release",
            actor=people.staff("risk_analyst"), now=factories.NOW,
        )  # fmt: skip
        assert released.state == "scheduled"
        batch = factories.freeze(released)
        assert (batch.attempt_count, batch.total_minor) == (1, 100_00)

    @pytest.mark.parametrize("what", ["frozen", "closed"])
    def test_are_not_released_before_the_customer_is_open(self, met, what):
        home, customer, met = met
        Payout.objects.filter(pk=met.pk).update(hold_reasons=["payouts_paused", "velocity"])
        Customer.objects.filter(pk=customer.pk).update(state=what)
        release = partial(
            payouts.release_payout, organization_id=home.id, payout_id=met.id,
            reason="Checked with the customer", actor=people.staff("risk_analyst"),
            now=factories.NOW,
        )  # fmt: skip

        with pytest.raises(payout_errors.AccountFrozen, match=f"The customer is {what}"):
            release(hold_reason="payouts_paused", idempotency_key="paused")
        # What else holds it is looked at meanwhile.
        left = release(hold_reason="velocity", idempotency_key="velocity")

        assert (left.state, left.hold_reasons) == ("held", ["payouts_paused"])
        assert AuditEvent.objects.filter(act="payouts.release_payout").count() == 1

    def test_that_no_cut_off_met_go_on_by_themselves(self, settings):
        settings.PAYOUT_COOLDOWN_HOURS = 0
        home = factories.world()
        customer = factories.customer_with(home, 5_000_00)
        payout = factories.request(home, factories.destination(home, customer), 100_00)
        freeze(customer, people.staff("support"))

        decide(customer, ask(customer, people.staff("support_lead")), people.staff("compliance"))

        assert factories.freeze(payout).attempt_count == 1
