"""A month is closed, and opened again, by two people: asked by one, decided by another."""

from datetime import UTC, date, datetime
from uuid import UUID

import pytest
from django.test import Client

from apps.accounts.errors import CapabilityMissing
from apps.accounts.models import Organization, Staff
from apps.accounts.operations import rotate_api_key
from apps.approvals import errors as approval_errors
from apps.approvals import operations as approvals
from apps.approvals import queries as requests
from apps.approvals import registry
from apps.approvals.models import ApprovalDecision, ApprovalRequest
from apps.approvals.rules import Policy
from apps.approvals.states import Verdict
from apps.backoffice import errors, operations
from apps.core import clock
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.core.models import AuditEvent
from apps.ledger import errors as ledger_errors
from apps.ledger import operations as ledger
from apps.ledger import queries as books
from tests.accounts.factories import TESTS, issue_key
from tests.ledger.factories import create_organization, open_account, post_transfer
from tests.ledger.histories import Move, seal, write_history
from tests.payouts import people
from tests.support import race, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

JUNE = date(2026, 6, 1)
IN_JUNE = datetime(2026, 6, 15, 12, tzinfo=UTC)
NOW = datetime(2026, 8, 3, 9, tzinfo=UTC)


@pytest.fixture
def organization():
    made = create_organization()
    bank = open_account(made, "bank:ba_1:EUR", type_="asset", floor=None)
    ann = open_account(made, "wallets:ann:EUR", floor=None)
    write_history(made, [Move(bank, ann, 100_00, IN_JUNE, IN_JUNE)])
    seal(made)
    return made


@pytest.fixture
def maker():
    return people.staff("finance_maker")


@pytest.fixture
def approver():
    return people.staff("finance_approver")


def ask(organization, actor, *, key="ask", what=operations.request_period_close, now=NOW):
    return what(
        organization_id=organization,
        month=JUNE,
        reason="June is done",
        idempotency_key=key,
        actor=actor,
        now=now,
    )


def decide(organization, asked, actor, **more):
    return decide_request(organization, asked.approval_id, actor, **more)


def decide_request(organization, request_id, actor, *, verdict=Verdict.APPROVE, key="decide"):
    return approvals.decide_approval(
        organization_id=organization,
        request_id=request_id,
        verdict=verdict,
        reason="Looked at it",
        idempotency_key=key,
        actor=actor,
        now=NOW,
    )


def state(organization) -> str:
    return books.view_period(organization_id=organization, month=JUNE).state


def close(organization, maker, approver):
    decide(organization, ask(organization, maker), approver)

    def closed() -> bool:
        for owner, period in books.list_closing():
            ledger.finish_closing(organization_id=owner, period_id=period, now=NOW)
        return state(organization) == "closed"

    wait_until(closed)


class TestRequestPeriodClose:
    def test_closes_once_another_person_agrees(self, organization, maker, approver):
        asked = ask(organization, maker)
        assert (asked.state, state(organization)) == ("open", "open")

        decide(organization, asked, approver)

        assert state(organization) in {"closing", "closed"}
        row = books.find_period(organization_id=organization, month=JUNE)
        assert (row.requested_by, row.approved_by) == (maker.principal, approver.principal)

    def test_denied_leaves_the_month_open(self, organization, maker, approver):
        asked = ask(organization, maker)

        decide(organization, asked, approver, verdict=Verdict.DENY)

        assert state(organization) == "open"
        assert ask(organization, maker, key="again").approval_id != asked.approval_id

    def test_is_not_decided_by_who_asked(self, organization, approver):
        asked = ask(organization, approver)

        with pytest.raises(approval_errors.CannotApproveOwn):
            decide(organization, asked, approver)
        assert state(organization) == "open"

    @pytest.mark.parametrize("rotated", [False, True], ids=["issued", "rotated"])
    def test_by_a_key_is_not_decided_by_who_made_it(self, organization, approver, rotated):
        """Over the API, with its token: who could hold it does not agree to what it asked for."""
        owner = Organization.objects.get(id=organization)
        maker = Staff.objects.get(id=UUID(approver.id))
        issued = issue_key(owner, "periods:write", issued_by=maker)
        if rotated:
            issued = rotate_api_key(
                organization_id=organization, api_key_id=issued.key.id, actor=TESTS, now=clock.now()
            )
        client = Client(
            headers={"Authorization": f"Bearer {issued.token}", "Idempotency-Key": "close"}
        )
        answer = client.post(
            "/v1/periods/2026-06/close", {"reason": "June is done"}, content_type="application/json"
        )
        assert answer.status_code == 202, answer.content
        request = ApprovalRequest.objects.get()

        with pytest.raises(approval_errors.CannotApproveOwn) as refused:
            decide_request(organization, request.id, approver)

        assert refused.value.code == "cannot_approve_own"
        assert state(organization) == "open"
        assert not ApprovalDecision.objects.exists()
        decide_request(organization, request.id, people.approver(), key="other")
        assert state(organization) in {"closing", "closed"}

    def test_is_not_decided_by_who_may_only_ask(self, organization, maker):
        asked = ask(organization, maker)

        with pytest.raises(CapabilityMissing):
            decide(organization, asked, people.staff("finance_maker"))
        assert state(organization) == "open"

    def test_by_somebody_without_the_capability_is_refused(self, organization):
        with pytest.raises(CapabilityMissing):
            ask(organization, people.staff("support_lead"))

        assert not ApprovalRequest.objects.exists()

    def test_again_with_its_key_is_the_same_request(self, organization, maker):
        first = ask(organization, maker)

        assert ask(organization, maker) == first
        assert ApprovalRequest.objects.count() == 1

    def test_while_one_waits_is_refused(self, organization, maker):
        first = ask(organization, maker)

        with pytest.raises(errors.PeriodAskedForAlready) as refused:
            ask(organization, maker, key="again")

        assert refused.value.details == {"approval": encode_id("apr", first.approval_id)}

    @pytest.mark.parametrize("turn", range(5))
    def test_of_two_at_once_makes_one_request(self, organization, maker, turn):
        outcomes = race(
            lambda: ask(organization, maker, key="a"), lambda: ask(organization, maker, key="b")
        )

        names = sorted(type(outcome).__name__ for outcome in outcomes)
        assert names == ["AskedFor", "PeriodAskedForAlready"]
        assert ApprovalRequest.objects.count() == 1

    def test_before_the_month_is_over_is_refused(self, organization, maker):
        with pytest.raises(ledger_errors.PeriodNotOver):
            ask(organization, maker, now=IN_JUNE)

        assert not ApprovalRequest.objects.exists()

    def test_under_a_policy_that_asks_nobody_is_refused(self, organization, maker, approver):
        policy = approvals.propose_policy(
            organization_id=organization,
            act="ledger.close_period",
            policy=Policy(),
            reason="We trust each other",
            idempotency_key="policy",
            actor=maker,
            now=NOW,
        )
        waiting = ApprovalRequest.objects.get(subject_id=policy.id)
        approvals.decide_approval(
            organization_id=organization,
            request_id=waiting.id,
            verdict=Verdict.APPROVE,
            reason="Looked at it",
            idempotency_key="policy yes",
            actor=approver,
            now=NOW,
        )

        with pytest.raises(ledger_errors.TwoPeopleNeeded):
            ask(organization, maker)
        assert state(organization) == "open"

    def test_is_told_in_the_inbox_and_the_trail(self, organization, maker):
        asked = ask(organization, maker)

        request = requests.get_request(organization_id=organization, request_id=asked.approval_id)
        act = registry.get_act(request.act)
        told = act.describe(organization, [request.subject_id])[request.subject_id]
        assert told["title"] == "Close June 2026"
        trail = AuditEvent.objects.get(act="ledger.close_period")
        assert (trail.principal, trail.reason) == (maker.principal, "June is done")

    def test_that_nobody_decided_in_time_may_be_asked_anew_without_a_sweeper(
        self, organization, maker
    ):
        asked = ask(organization, maker)

        again = ask(organization, maker, key="again", now=NOW + approvals.APPROVAL_LIFE)

        states = dict(ApprovalRequest.objects.values_list("id", "state"))
        assert states == {asked.approval_id: "expired", again.approval_id: "open"}
        assert state(organization) == "open"


class TestCallOff:
    def call_off(self, organization, actor):
        period = books.find_period(organization_id=organization, month=JUNE)
        return ledger.call_off_closing(
            organization_id=organization, period_id=period.id, reason="Not yet",
            idempotency_key=f"off {actor.principal}", actor=actor, now=NOW,
        )  # fmt: skip

    def test_is_for_whoever_may_ask_for_a_close(self, organization, maker, approver):
        # An entry of June that waits for its seal: the month stays closing.
        accounts = books.account_ids(
            organization_id=organization, codes=["bank:ba_1:EUR", "wallets:ann:EUR"]
        )
        post_transfer(organization, *accounts.values(), 1, key="late", effective_at=IN_JUNE)
        decide(organization, ask(organization, maker), approver)

        with pytest.raises(CapabilityMissing):
            self.call_off(organization, people.staff("support_lead"))
        assert state(organization) == "closing"

        assert self.call_off(organization, maker).state == "open"


class TestRequestPeriodReopen:
    def test_opens_once_another_person_agrees(self, organization, maker, approver):
        close(organization, maker, approver)

        asked = ask(organization, maker, key="re", what=operations.request_period_reopen)
        assert state(organization) == "closed"
        decide(organization, asked, approver, key="re yes")

        assert state(organization) == "open"

    def test_of_a_month_that_is_open_is_refused(self, organization, maker):
        with pytest.raises(ledger_errors.PeriodNotFound):
            ask(organization, maker, what=operations.request_period_reopen)
        assert not ApprovalRequest.objects.exists()

    def test_by_a_key_is_not_decided_by_its_issuer(self, organization, maker, approver):
        close(organization, maker, approver)
        key = Actor(kind="api_key", id="ak_1", principal=approver.principal)
        asked = ask(organization, key, key="re", what=operations.request_period_reopen)

        with pytest.raises(approval_errors.CannotApproveOwn):
            decide(organization, asked, approver, key="own")
        assert state(organization) == "closed"
