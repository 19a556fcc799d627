from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import IntegrityError, connection

from apps.accounts.errors import CapabilityMissing
from apps.accounts.models import Customer
from apps.approvals import errors, operations, queries, registry
from apps.approvals.invariants import INVARIANTS
from apps.approvals.models import ApprovalDecision, ApprovalPolicy, ApprovalRequest
from apps.approvals.rules import Band, Facts, Policy, Step
from apps.core import audit
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken
from apps.core.ids import new_id
from apps.core.models import AuditEvent
from tests.payouts import people
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 11, 24, 11, tzinfo=UTC)
FA = "finance_approver"
ACT = "test.close_customer"


def told(verb):
    def hear(resolution):
        audit.record(
            f"test.{verb}",
            ("customer", str(resolution.subject_id)),
            organization_id=resolution.organization_id,
            actor=resolution.actor,
        )

    return hear


def lock(organization_id, customer_id):
    list(Customer.objects.select_for_update().filter(id=customer_id))


def read(organization_id, customer_id):
    return Customer.objects.get(organization_id=organization_id, id=customer_id).metadata


@pytest.fixture(autouse=True)
def _act(monkeypatch):
    monkeypatch.setattr(registry, "_acts", dict(registry._acts))
    registry.register(
        registry.Act(
            name=ACT,
            subject_type="customer",
            capability="payouts.approve_payout",
            default_policy=Policy(
                bands={"EUR": (Band(100, ()), Band(None, (Step(FA, 2),)))},
                otherwise=(Step(FA, 1),),
            ),
            lock=lock,
            snapshot=read,
            facts=lambda o, c: Facts(amount_minor=read(o, c).get("amount"), currency="EUR"),
            describe=lambda _o, ids: {id_: {"title": "a customer"} for id_ in ids},
            on_approved=told("approved"),
            on_denied=told("denied"),
            on_expired=told("expired"),
        )
    )
    yield
    with connection.cursor() as cursor:
        for name, sql in INVARIANTS.items():
            cursor.execute(sql)
            assert not cursor.fetchall(), name


@pytest.fixture
def maker():
    return people.staff("finance_maker", FA)


@pytest.fixture
def subject():
    return people.customer(people.organization())


def ask(subject, maker, *, amount=None, now=NOW):
    if amount is not None:
        Customer.objects.filter(id=subject.id).update(metadata={"amount": amount})
    return people.in_transaction(
        partial(
            operations.request_approval,
            organization_id=subject.organization_id,
            act=ACT,
            subject_id=subject.id,
            requester_principal=maker.principal,
            actor=maker,
            now=now,
        )
    )


def decide(request, person, verdict="approve", *, key=None, now=NOW, reason="seen"):
    return operations.decide_approval(
        organization_id=request.organization_id,
        request_id=request.id,
        verdict=verdict,
        reason=reason,
        idempotency_key=key or new_id().hex,
        actor=person,
        now=now,
    )


def heard():
    acts = AuditEvent.objects.filter(act__startswith="test.").order_by("id")
    return [act.removeprefix("test.") for act in acts.values_list("act", flat=True)]


class TestDecide:
    def test_the_last_person_needed_lets_it_happen(self, subject, maker):
        request = ask(subject, maker, amount=101)

        first = decide(request, people.approver())
        second = decide(request, people.approver())

        assert (first.state, second.state) == ("open", "approved")
        assert queries.count_people(second) == (2, 2)
        assert heard() == ["approved"]

    def test_nobody_is_asked_below_the_first_band(self, subject, maker):
        assert ask(subject, maker, amount=100) is None

    def test_a_denial_ends_it(self, subject, maker):
        request = ask(subject, maker)

        assert decide(request, people.approver(), "deny").state == "denied"

        assert heard() == ["denied"]
        with pytest.raises(errors.ApprovalClosed):
            decide(request, people.approver())

    def test_what_one_asked_for_another_decides(self, subject, maker):
        request = ask(subject, maker)

        with pytest.raises(errors.CannotApproveOwn):
            decide(request, maker)
        # The key of a person is that person.
        with pytest.raises(errors.CannotApproveOwn):
            decide(request, Actor(kind="api_key", id="k", principal=maker.principal))

        assert ApprovalDecision.objects.count() == 0

    @pytest.mark.parametrize("role", ["finance_maker", "support", "auditor"])
    def test_others_than_the_asked_roles_decide_nothing(self, subject, maker, role):
        request = ask(subject, maker)

        with pytest.raises(CapabilityMissing):
            decide(request, people.staff(role))

        assert heard() == []

    def test_an_api_key_decides_nothing(self, subject, maker):
        request = ask(subject, maker)
        key = Actor(kind="api_key", id="k", principal=people.approver().principal)

        with pytest.raises(errors.MayNotDecide):
            decide(request, key)

    def test_a_deactivated_approver_decides_nothing(self, subject, maker):
        request, person = ask(subject, maker), people.approver()
        people.deactivate(person)

        with pytest.raises(CapabilityMissing):
            decide(request, person)

    def test_the_same_person_again_changes_nothing(self, subject, maker):
        request, person = ask(subject, maker, amount=101), people.approver()
        decide(request, person)

        assert decide(request, person).state == "open"

        assert ApprovalDecision.objects.count() == 1

    def test_staff_without_the_capability_propose_no_policy(self, subject):
        with pytest.raises(CapabilityMissing):
            operations.propose_policy(
                organization_id=subject.organization_id,
                act=ACT,
                policy=Policy(),
                reason="nobody needs to look",
                idempotency_key="policy",
                actor=people.staff("support"),
                now=NOW,
            )

    @pytest.mark.parametrize(("first", "second"), [("approve", "deny"), ("deny", "approve")])
    def test_the_opposite_verdict_of_one_person_is_refused(self, subject, maker, first, second):
        request, person = ask(subject, maker, amount=101), people.approver()
        decide(request, person, first)

        with pytest.raises(errors.AlreadyDecided):
            decide(request, person, second)

        assert ApprovalDecision.objects.get().verdict == first

    def test_a_replayed_key_changes_nothing(self, subject, maker):
        request, person = ask(subject, maker), people.approver()
        decide(request, person, key="k")

        assert decide(request, person, key="k").state == "approved"

        assert heard() == ["approved"]

    def test_another_organizations_request_is_not_found(self, subject, maker):
        request = ask(subject, maker)
        request.organization_id = people.organization("Other").id

        with pytest.raises(errors.ApprovalNotFound):
            decide(request, people.approver())

    def test_two_last_approvals_at_once_make_one_transition(self, subject, maker):
        request = ask(subject, maker)

        outcomes = race(*(partial(decide, request, people.approver()) for _ in range(4)))

        assert heard() == ["approved"]
        closed = [one for one in outcomes if isinstance(one, errors.ApprovalClosed)]
        assert len(closed) == 3

    def test_an_approver_who_left_meanwhile_does_not_count(self, subject, maker):
        request, gone = ask(subject, maker, amount=101), people.approver()
        decide(request, gone)
        people.deactivate(gone)

        assert decide(request, people.approver()).state == "open"
        assert decide(request, people.approver()).state == "approved"


class TestStale:
    def test_a_changed_subject_voids_what_was_decided_and_asks_anew(self, subject, maker):
        request = ask(subject, maker, amount=101)
        decide(request, people.approver())
        Customer.objects.filter(id=subject.id).update(metadata={"amount": 500})

        with pytest.raises(errors.ApprovalStale):
            decide(request, people.approver())

        request.refresh_from_db()
        renewed = ApprovalRequest.objects.get(state="open")
        assert request.state == "stale"
        assert renewed.requester_principal == maker.principal
        assert queries.count_people(renewed) == (2, 0)
        assert heard() == []

    def test_what_needs_nobody_any_more_goes_on(self, subject, maker):
        request = ask(subject, maker, amount=101)
        Customer.objects.filter(id=subject.id).update(metadata={"amount": 5})

        with pytest.raises(errors.ApprovalStale):
            decide(request, people.approver())

        assert heard() == ["approved"]


class TestExpiry:
    def test_is_decided_by_the_clock_though_no_sweeper_ran(self, subject, maker):
        request, late = ask(subject, maker), NOW + timedelta(hours=72)

        with pytest.raises(errors.ApprovalExpired):
            decide(request, people.approver(), now=late)

        request.refresh_from_db()
        assert request.state == "expired"
        assert heard() == ["expired"]

    def test_a_moment_earlier_is_in_time(self, subject, maker):
        request = ask(subject, maker)
        in_time = NOW + timedelta(hours=72) - timedelta(microseconds=1)

        assert decide(request, people.approver(), now=in_time).state == "approved"

    def test_the_sweeper_expires_once(self, subject, maker):
        request, late = ask(subject, maker), NOW + timedelta(hours=72)
        expire = partial(
            operations.expire_approval,
            organization_id=request.organization_id,
            request_id=request.id,
        )

        assert [expire(now=NOW), expire(now=late), expire(now=late)] == [False, True, False]
        assert [r.id for r in queries.list_expired(now=late)] == []
        assert heard() == ["expired"]


class TestWithdraw:
    def test_closes_what_is_open_and_nothing_else(self, subject, maker):
        request = ask(subject, maker)
        withdraw = partial(
            operations.withdraw_approval,
            organization_id=request.organization_id,
            act=ACT,
            subject_id=subject.id,
            actor=maker,
            now=NOW,
        )

        for _ in range(2):
            people.in_transaction(withdraw)

        request.refresh_from_db()
        assert request.state == "withdrawn"
        assert heard() == []


class TestLapsed:
    def test_an_approval_falls_with_its_approver_or_its_subject(self, subject, maker):
        request, person = ask(subject, maker), people.approver()
        decide(request, person)
        find = partial(queries.find_lapsed, organization_id=request.organization_id)
        digest = bytes(request.snapshot_digest)

        standing = find(digests={request.id: digest})
        changed = find(digests={request.id: b"another"})
        people.deactivate(person)
        left = find(digests={request.id: digest})

        assert (standing, changed, left) == (set(), {request.id}, {request.id})


class TestPolicy:
    def propose(self, subject, maker, policy, key=None, act=ACT):
        return operations.propose_policy(
            organization_id=subject.organization_id,
            act=act,
            policy=policy,
            reason="a test",
            idempotency_key=key or new_id().hex,
            actor=maker,
            now=NOW,
        )

    def test_is_of_an_act_that_some_app_has(self, subject, maker):
        with pytest.raises(errors.UnknownAct) as refused:
            self.propose(subject, maker, Policy(), act="no.such_act")

        assert refused.value.details == {"act": "no.such_act"}

    def test_holds_once_another_person_agrees(self, subject, maker):
        first = self.propose(subject, maker, Policy(otherwise=(Step(FA, 3),)))
        [request] = queries.list_open_requests(organization_id=subject.organization_id)
        assert ask(subject, maker).policy_version == 0
        people.in_transaction(
            partial(
                operations.withdraw_approval,
                organization_id=subject.organization_id,
                act=ACT,
                subject_id=subject.id,
                actor=maker,
                now=NOW,
            )
        )

        decide(request, people.approver())

        first.refresh_from_db()
        asked = ask(subject, maker)
        assert (first.state, asked.policy_version, asked.steps[0]["count"]) == ("in_force", 1, 3)

    def test_replaces_the_version_before(self, subject, maker):
        for count in (1, 2):
            self.propose(subject, maker, Policy(otherwise=(Step(FA, count),)))
            [request] = queries.list_open_requests()
            decide(request, people.approver())

        states = ApprovalPolicy.objects.order_by("version").values_list("version", "state")
        assert list(states) == [(1, "replaced"), (2, "in_force")]

    def test_a_denied_one_never_holds(self, subject, maker):
        policy = self.propose(subject, maker, Policy())
        [request] = queries.list_open_requests()

        decide(request, people.approver(), "deny")

        policy.refresh_from_db()
        assert policy.state == "denied"
        assert ask(subject, maker).policy_version == 0

    def test_a_replay_returns_the_same_version(self, subject, maker):
        first = self.propose(subject, maker, Policy(), key="k")

        assert self.propose(subject, maker, Policy(), key="k").id == first.id

    def test_a_contradiction_is_refused(self, subject, maker):
        with pytest.raises(errors.PolicyRefused):
            self.propose(subject, maker, Policy(otherwise=(Step(FA, 6),)))

        assert ApprovalPolicy.objects.count() == 0


class TestGuards:
    def decision(self, request, **changes):
        return ApprovalDecision(
            **{
                "organization_id": request.organization_id,
                "request_id": request.id,
                "requester_principal": request.requester_principal,
                "decided_by": "staff:somebody",
                "roles": [FA],
                "verdict": "approve",
                "reason": "",
                "snapshot_digest": request.snapshot_digest,
                "decided_at": NOW,
                **changes,
            }
        )

    def test_the_requesters_own_decision_fails_in_sql_too(self, subject, maker):
        request = ask(subject, maker)

        with pytest.raises(IntegrityError, match="approval_decision_is_not_the_requesters"):
            self.decision(request, decided_by=maker.principal).save()
        # A lie about who asked is found out by the composite key.
        with pytest.raises(IntegrityError, match="approval_decision_owns_its_request"):
            self.decision(
                request, decided_by=maker.principal, requester_principal="staff:other"
            ).save()

    def test_a_person_decides_once(self, subject, maker):
        request = ask(subject, maker)
        self.decision(request).save()

        with pytest.raises(IntegrityError, match="approval_decision_is_one_per_person"):
            self.decision(request).save()
        with pytest.raises(IntegrityError), connection.cursor() as cursor:
            cursor.execute("UPDATE approvals_decision SET verdict = 'deny'")

    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE approvals_request SET requester_principal = 'staff:x'",
            "UPDATE approvals_request SET steps = '[]'",
            "DELETE FROM approvals_request",
            "UPDATE approvals_request SET state = 'denied'",
        ],
    )
    def test_a_request_is_not_rewritten_in_sql(self, subject, maker, sql):
        request = ask(subject, maker)

        with pytest.raises(IntegrityError), connection.cursor() as cursor:
            cursor.execute(f"BEGIN; {sql}; COMMIT")
        connection.rollback()

        request.refresh_from_db()
        assert request.state == "open"

    def test_asking_is_part_of_an_operation(self, subject, maker):
        with pytest.raises(InvariantBroken):
            operations.request_approval(
                organization_id=subject.organization_id,
                act=ACT,
                subject_id=subject.id,
                requester_principal=maker.principal,
                actor=maker,
                now=NOW,
            )
