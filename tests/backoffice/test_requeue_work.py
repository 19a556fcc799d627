"""Releasing work that was set aside: by whom, once, and beside the workers who claim it."""

from datetime import timedelta

import pytest

from apps.accounts.errors import CapabilityMissing, OrganizationNotFound
from apps.accounts.roles import Role
from apps.backoffice import operations
from apps.core import clock, transactions, work
from apps.core.actors import Actor
from apps.core.errors import NotFound, StateConflict
from apps.core.idempotency import IdempotencyKeyReused
from apps.core.ids import new_id
from apps.core.models import AuditEvent, EventWork, JobRun
from apps.payouts.models import BatchWork
from tests.accounts.factories import create_organization, create_staff
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

KIND = "core.consume"
REASON = "What broke it is mended."
MAY = {Role.FINANCE_MAKER, Role.FINANCE_APPROVER, Role.RISK_MANAGER}


@pytest.fixture
def organization():
    return create_organization()


@pytest.fixture
def milo():
    return Actor.staff(create_staff("risk_manager").pk)


def set_aside(organization, state="quarantined", **more):
    return EventWork.objects.create(
        organization_id=organization.id,
        batch_id=new_id(),
        consumer="tests",
        state=state,
        **{"attempts": 12, "last_error_code": "consumer_failed"} | more,
    )


def requeue(row, *, by, key="one", **more):
    wanted = {
        "organization_id": row.organization_id,
        "kind_name": KIND,
        "row_id": row.id,
        "reason": REASON,
        "idempotency_key": key,
        "actor": by,
    }
    return operations.requeue_work(**wanted | more)


def releases():
    return AuditEvent.objects.filter(act="core.requeue_work").count()


def claim():
    return work.claim_due(EventWork, limit=1, lease_seconds=60)


class TestRequeueWork:
    @pytest.mark.parametrize("state", ["quarantined", "failed", "paused"])
    def test_makes_the_row_due_and_says_who_why_and_from_what(self, organization, milo, state):
        row = set_aside(organization, state)

        requeue(row, by=milo)

        assert [taken.id for taken in claim()] == [row.id]
        trail = AuditEvent.objects.get(act="core.requeue_work")
        assert (trail.principal, trail.reason) == (milo.principal, REASON)
        assert (trail.organization_id, trail.subject_type, trail.subject_id) == (
            organization.id,
            "core.eventwork",
            str(row.id),
        )
        error = {"lapses": 0, "error": "consumer_failed"}
        assert trail.before == {"state": state, "attempts": 12} | error
        assert trail.after == {"state": "pending", "attempts": 0} | error

    def test_makes_work_of_money_due_and_moves_nothing(self, organization, milo):
        row = BatchWork.objects.create(
            organization_id=organization.id,
            batch_id=new_id(),
            step="send",
            state="failed",
            attempts=1,
            last_error_code="bank_declined",
        )

        requeue(row, by=milo, kind_name="payouts.batches")

        row.refresh_from_db()
        assert (row.state, row.attempts, row.step) == ("pending", 0, "send")
        assert "payouts.batches" in [kind.name for kind in work.due_kinds()]

    def test_makes_a_period_due_that_belongs_to_no_organization(self, milo):
        row = JobRun.objects.create(
            kind="a.job", period="2026-11-02", due_at=clock.now(), state="quarantined"
        )

        requeue(row, by=milo, kind_name="core.jobs")
        requeue(row, by=milo, kind_name="core.jobs")

        row.refresh_from_db()
        assert row.state == "pending"
        assert AuditEvent.objects.get(act="core.requeue_work").organization_id is None

    @pytest.mark.parametrize("state", ["pending", "leased", "done"])
    def test_refuses_what_is_not_set_aside(self, organization, milo, state):
        row = set_aside(organization, state)

        with pytest.raises(StateConflict) as refused:
            requeue(row, by=milo)

        assert refused.value.details == {"state": state}
        assert EventWork.objects.get().state == state
        assert releases() == 0

    def test_refuses_what_is_not_there_or_another_organizations(self, organization, milo):
        row = set_aside(organization)

        for number, wrong in enumerate(
            (
                {"kind_name": "no.kind"},
                {"row_id": new_id()},
                {"organization_id": create_organization().id},
                {"organization_id": None},
            )
        ):
            with pytest.raises(NotFound):
                requeue(row, by=milo, key=str(number), **wrong)

        assert EventWork.objects.get().state == "quarantined"
        assert releases() == 0

    @pytest.mark.parametrize("role", Role)
    def test_is_for_those_whom_the_table_names(self, organization, role):
        row = set_aside(organization)
        person = Actor.staff(create_staff(role).pk)

        if role in MAY:
            requeue(row, by=person)
        else:
            with pytest.raises(CapabilityMissing):
                requeue(row, by=person)

        assert EventWork.objects.get().state == ("pending" if role in MAY else "quarantined")
        assert releases() == (1 if role in MAY else 0)

    def test_is_for_those_who_may_see_the_organization(self, organization):
        row = set_aside(organization)
        stranger = create_staff(
            "risk_manager", organizations=[create_organization()], sees_all=False
        )

        with pytest.raises(OrganizationNotFound):
            requeue(row, by=Actor.staff(stranger.pk))

        assert EventWork.objects.get().state == "quarantined"


class TestAgain:
    def test_with_the_same_key_is_the_first_outcome(self, organization, milo):
        row = set_aside(organization)

        requeue(row, by=milo)
        requeue(row, by=milo)

        assert releases() == 1

    def test_with_the_same_key_releases_nothing_that_was_set_aside_anew(self, organization, milo):
        row = set_aside(organization)
        requeue(row, by=milo)
        EventWork.objects.update(state="quarantined")

        requeue(row, by=milo)

        assert EventWork.objects.get().state == "quarantined"
        assert releases() == 1

    def test_with_another_key_finds_it_at_work(self, organization, milo):
        row = set_aside(organization)
        requeue(row, by=milo)

        with pytest.raises(StateConflict):
            requeue(row, by=milo, key="two")

        assert releases() == 1

    def test_with_a_key_that_stands_for_another_row_is_refused(self, organization, milo):
        one, other = set_aside(organization), set_aside(organization)
        requeue(one, by=milo)

        with pytest.raises(IdempotencyKeyReused):
            requeue(other, by=milo)

        other.refresh_from_db()
        assert other.state == "quarantined"


class TestAtOnce:
    def test_by_a_double_click_is_done_once(self, organization, milo):
        row = set_aside(organization)

        outcomes = race(*[lambda: requeue(row, by=milo)] * 4)

        assert outcomes == [None] * 4
        assert releases() == 1

    def test_by_two_people_is_done_once(self, organization, milo):
        row = set_aside(organization)
        noor = Actor.staff(create_staff("finance_maker").pk)

        outcomes = race(lambda: requeue(row, by=milo), lambda: requeue(row, by=noor, key="another"))

        assert sorted(type(one).__name__ for one in outcomes) == ["NoneType", "StateConflict"]
        assert releases() == 1

    @pytest.mark.parametrize("time", range(5))
    def test_with_workers_leaves_it_to_one_of_them_at_most(self, organization, milo, time):
        row = set_aside(organization)

        released, *claims = race(lambda: requeue(row, by=milo), claim, claim, claim)

        taken = [one for claimed in claims for one in claimed]
        row.refresh_from_db()
        assert released is None
        assert len(taken) <= 1
        assert (row.state, row.attempts) == (("leased", 1) if taken else ("pending", 0))

    @pytest.mark.parametrize("time", range(5))
    def test_with_the_claim_that_quarantines_comes_before_or_after(self, organization, milo, time):
        ended = clock.now() - timedelta(seconds=5)
        row = set_aside(
            organization,
            "leased",
            lapses=work.LAPSES_MAX - 1,
            lease_token=new_id(),
            lease_until=ended,
            next_attempt_at=ended,
        )

        released, claimed = race(lambda: requeue(row, by=milo), claim)

        row.refresh_from_db()
        assert claimed == []
        if released is None:
            assert (row.state, row.attempts, row.lapses, releases()) == ("pending", 0, 0, 1)
        else:
            # The claim passed over the row that was being looked at; the next one does not.
            assert isinstance(released, StateConflict)
            assert claim() == []
            row.refresh_from_db()
            assert (row.state, releases()) == ("quarantined", 0)

    def test_leaves_nothing_to_record_for_a_worker_that_lost_it(self, organization, milo):
        token = new_id()
        row = set_aside(organization, lease_token=token)
        requeue(row, by=milo)

        @transactions.outermost
        def record():
            return work.lock_leased(
                EventWork, organization_id=organization.id, row_id=row.id, lease_token=token
            )

        assert record() is None
