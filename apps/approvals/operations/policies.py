"""Who is asked is itself decided by two people."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.accounts import queries as accounts
from apps.accounts.roles import Role
from apps.approvals import errors, queries, registry
from apps.approvals.models import ApprovalPolicy
from apps.approvals.operations.requests import request_approval
from apps.approvals.registry import Act, Resolution
from apps.approvals.rules import (
    Facts,
    Policy,
    Step,
    policy_fault,
    policy_to_json,
    snapshot_digest,
)
from apps.approvals.states import PolicyState
from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken

POLICY_ACT: Final = "approvals.change_policy"


@transactions.outermost
def propose_policy(
    *,
    organization_id: UUID,
    act: str,
    policy: Policy,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> ApprovalPolicy:
    """
    Propose a new version of who must agree to `act`; it is in force once another person agrees.

    Replaying the key returns the version as it is now.

    :raises CapabilityMissing: if the actor is staff who may not ask for it
    :raises UnknownAct: if no app registered the act
    :raises PolicyRefused: if its bands contradict each other or it asks for too many people
    """
    terms = policy_to_json(policy)
    claim = idempotency.claim(
        organization_id, idempotency_key, "propose_policy", act, terms, reason, prefix="apl"
    )
    if claim.replayed:
        return ApprovalPolicy.objects.get(organization_id=organization_id, id=claim.resource_id)
    accounts.require_capability(actor=actor, capability=POLICY_ACT, organization_id=organization_id)
    if act not in {known.name for known in registry.list_acts()}:
        raise errors.UnknownAct("There is no such act.", act=act)
    if fault := policy_fault(policy):
        raise errors.PolicyRefused("The policy contradicts itself.", fault=fault)
    newest = queries.list_policies(organization_id=organization_id, act=act)[:1]
    proposed = ApprovalPolicy.objects.create(
        id=claim.resource_id,
        organization_id=organization_id,
        act=act,
        version=newest[0].version + 1 if newest else 1,
        terms=terms,
        proposed_by=str(actor),
        reason=reason,
        proposed_at=now,
    )
    audit.record(POLICY_ACT, proposed, actor=actor, reason=reason, after=terms)
    request_approval(
        organization_id=organization_id,
        act=POLICY_ACT,
        subject_id=proposed.id,
        requester_principal=actor.principal,
        actor=actor,
        now=now,
    )
    return proposed


def register_policy_act() -> None:
    """Make the changing of policies an act like any other; called when the app is ready."""
    registry.register(
        Act(
            name=POLICY_ACT,
            subject_type="approval_policy",
            capability=POLICY_ACT,
            default_policy=Policy(otherwise=(Step(Role.FINANCE_APPROVER, 1),)),
            lock=_lock,
            snapshot=_snapshot,
            facts=lambda _organization_id, _policy_id: Facts(),
            describe=_describe,
            on_approved=_put_in_force,
            on_denied=_deny,
            on_expired=_deny,
        )
    )


def _lock(organization_id: UUID, policy_id: UUID) -> None:
    queries.get_policy_for_update(organization_id=organization_id, policy_id=policy_id)


def _read(organization_id: UUID, policy_id: UUID) -> ApprovalPolicy:
    return ApprovalPolicy.objects.get(organization_id=organization_id, id=policy_id)


def _snapshot(organization_id: UUID, policy_id: UUID) -> dict[str, object]:
    policy = _read(organization_id, policy_id)
    return {
        "organization": str(organization_id),
        "act": policy.act,
        "version": policy.version,
        "terms": policy.terms,
    }


def _describe(organization_id: UUID, policy_ids: Sequence[UUID]) -> dict[UUID, Mapping[str, str]]:
    policies = ApprovalPolicy.objects.filter(organization_id=organization_id, id__in=policy_ids)
    return {
        policy.id: {"title": f"Policy {policy}", "reason": policy.reason} for policy in policies
    }


def _put_in_force(told: Resolution) -> None:
    policy = _read(told.organization_id, told.subject_id)
    if snapshot_digest(_snapshot(told.organization_id, policy.id)) != told.snapshot_digest:
        msg = f"Policy {policy.id} is not what was agreed to."
        raise InvariantBroken(msg)
    ApprovalPolicy.objects.filter(
        organization_id=told.organization_id, act=policy.act, state=PolicyState.IN_FORCE
    ).update(state=PolicyState.REPLACED)
    policy.state, policy.in_force_at = PolicyState.IN_FORCE, told.now
    policy.save(update_fields=["state", "in_force_at"])


def _deny(told: Resolution) -> None:
    ApprovalPolicy.objects.filter(organization_id=told.organization_id, id=told.subject_id).update(
        state=PolicyState.DENIED
    )
