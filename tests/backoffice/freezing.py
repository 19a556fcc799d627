"""Freezing a customer, asking for that to be lifted, and deciding it."""

from datetime import UTC, datetime, timedelta

from apps.accounts import operations as accounts
from apps.accounts.models import Customer
from apps.approvals import operations as approvals
from apps.approvals.models import ApprovalPolicy, ApprovalRequest
from apps.approvals.states import Verdict
from apps.backoffice import operations
from apps.core.ids import encode_id, new_id
from apps.core.models import OutboxEvent
from tests.payouts import people

NOW = datetime(2026, 8, 3, 9, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
WHY = "The customer has a new phone."


def freeze(customer, actor, *, now=NOW):
    return accounts.freeze_customer(
        organization_id=customer.organization_id, customer_id=customer.id, reason="A stolen phone",
        idempotency_key=new_id().hex, actor=actor, now=now,
    )  # fmt: skip


def ask(customer, actor, *, key=None, now=NOW):
    return operations.request_unfreeze(
        organization_id=customer.organization_id, customer_id=customer.id, reason=WHY,
        idempotency_key=key or new_id().hex, actor=actor, now=now,
    )  # fmt: skip


def decide(customer, asked, actor, verdict=Verdict.APPROVE, *, key=None, now=NOW):
    return approvals.decide_approval(
        organization_id=customer.organization_id, request_id=asked.approval_id, verdict=verdict,
        reason="Called them back", idempotency_key=key or new_id().hex, actor=actor, now=now,
    )  # fmt: skip


def state(customer):
    return Customer.objects.get(pk=customer.pk).state


def is_of_compliance(customer):
    return Customer.objects.get(pk=customer.pk).is_frozen_by_compliance


def told(customer):
    names = OutboxEvent.objects.filter(aggregate_id=encode_id("cus", customer.id)).order_by("id")
    return [name.rpartition(".")[2] for name in names.values_list("name", flat=True)]


def put_in_force(customer, policy):
    """Have another policy than the one that ships, as two people would."""
    proposed = approvals.propose_policy(
        organization_id=customer.organization_id, act=operations.UNFREEZE_ACT, policy=policy,
        reason="We do it otherwise", idempotency_key=new_id().hex,
        actor=people.staff("finance_maker"), now=NOW,
    )  # fmt: skip
    waiting = ApprovalRequest.objects.get(subject_id=proposed.id)
    approvals.decide_approval(
        organization_id=customer.organization_id, request_id=waiting.id, verdict=Verdict.APPROVE,
        reason="Looked at it", idempotency_key=new_id().hex, actor=people.approver(), now=NOW,
    )  # fmt: skip
    assert ApprovalPolicy.objects.get(pk=proposed.pk).state == "in_force"
