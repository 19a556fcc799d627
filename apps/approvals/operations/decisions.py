"""One person's answer to a request, and what it brings about."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from uuid import UUID

from apps.accounts import queries as accounts
from apps.approvals import errors, events, queries
from apps.approvals.models import ApprovalDecision, ApprovalRequest
from apps.approvals.operations.requests import (
    close,
    digest_of,
    expire_now,
    lock_with_subject,
    renew_now,
    resolution,
)
from apps.approvals.registry import Act
from apps.approvals.rules import roles_asked, steps_from_json, steps_met
from apps.approvals.states import RequestState, Verdict
from apps.core import audit, idempotency, outbox, transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal


@transactions.outermost
def decide_approval(
    *,
    organization_id: UUID,
    request_id: UUID,
    verdict: Verdict,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> ApprovalRequest:
    """
    Record a person's verdict; the last one needed lets the act happen, a denial undoes it.

    The same person again, or the key replayed, changes nothing and returns the request as it is.

    :raises ApprovalNotFound: if the organization has no such request
    :raises CannotApproveOwn: if the actor is the person who asked
    :raises CapabilityMissing: if the actor may not decide such acts at all
    :raises MayNotDecide: if the actor is no person, or holds no role that is asked for
    :raises AlreadyDecided: if the same person said the opposite before: it stands, and to stop the
        act it is canceled
    :raises ApprovalClosed: if it was decided, withdrawn or replaced before
    :raises ApprovalExpired: if its time was over; the act is undone by this
    :raises ApprovalStale: if the subject is not what was asked about; a new request is open
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "decide_approval",
        request_id,
        verdict,
        reason,
        prefix="apr",
        acts_on=request_id,
    )
    request, act = lock_with_subject(organization_id=organization_id, request_id=request_id)
    if claim.replayed:
        return request
    earlier = _earlier_verdict(request, actor=actor)
    if earlier == verdict:
        return request
    if earlier is not None:
        raise errors.AlreadyDecided("You have decided this the other way.", verdict=earlier)
    held = _refuse_wrong_person(request, act, actor=actor)
    _refuse_wrong_moment(request, act, now=now)
    decision = ApprovalDecision.objects.create(
        organization_id=organization_id,
        request_id=request.id,
        requester_principal=request.requester_principal,
        decided_by=actor.principal,
        roles=sorted(held),
        verdict=verdict,
        reason=reason,
        snapshot_digest=request.snapshot_digest,
        decided_at=now,
    )
    audit.record(
        act.capability,
        request,
        actor=actor,
        reason=reason,
        after={"act": request.act, "subject_id": str(request.subject_id), "verdict": verdict},
    )
    outbox.publish(events.ApprovalDecided.of(request, now=now), actor=actor, now=now)
    _conclude(request, act, decision=decision, actor=actor, now=now)
    return request


def _earlier_verdict(request: ApprovalRequest, *, actor: Actor) -> str | None:
    return (
        ApprovalDecision.objects.filter(
            organization_id=request.organization_id,
            request_id=request.id,
            decided_by=actor.principal,
        )
        .values_list("verdict", flat=True)
        .first()
    )


def _refuse_wrong_person(request: ApprovalRequest, act: Act, *, actor: Actor) -> frozenset[str]:
    if actor.principal == request.requester_principal:
        raise errors.CannotApproveOwn("What one asked for, another decides.")
    # Read now, under the lock: a role lost since the form was opened refuses.
    accounts.require_capability(
        actor=actor,
        capability=act.capability,
        organization_id=request.organization_id,
        deciding=True,
    )
    held = queries.roles_of({actor.principal})[actor.principal]
    asked = roles_asked(steps_from_json(request.steps))
    if actor.kind != "staff" or asked.isdisjoint(held):
        raise errors.MayNotDecide("This request asks for other roles.")
    return held


def _refuse_wrong_moment(request: ApprovalRequest, act: Act, *, now: datetime) -> None:
    if request.state == RequestState.EXPIRED:
        raise errors.ApprovalExpired("The time to decide is over.")
    if request.state != RequestState.OPEN:
        raise errors.ApprovalClosed("This request is closed.", state=request.state)
    identity = {"organization_id": request.organization_id, "request_id": request.id}
    if now >= request.expires_at:
        # Whether or not the sweeper ran: the refusal itself expires it, in a second transaction.
        _after_refusal(partial(expire_now, **identity, now=now))
        raise errors.ApprovalExpired("The time to decide is over.")
    if digest_of(act, request.organization_id, request.subject_id) != bytes(
        request.snapshot_digest
    ):
        _after_refusal(partial(renew_now, **identity, now=now))
        raise errors.ApprovalStale("This changed since it was asked for; it is asked anew.")


def _after_refusal(effect: Callable[[], object]) -> None:
    def write(_refusal: Refusal) -> bool:
        effect()
        return False

    transactions.on_refusal(write)


def _conclude(
    request: ApprovalRequest,
    act: Act,
    *,
    decision: ApprovalDecision,
    actor: Actor,
    now: datetime,
) -> None:
    told = resolution(request, reason=decision.reason, actor=actor, now=now)
    if decision.verdict == Verdict.DENY:
        close(request, state=RequestState.DENIED, actor=actor, now=now)
        act.on_denied(told)
    elif _is_met(request):
        close(request, state=RequestState.APPROVED, actor=actor, now=now)
        act.on_approved(told)


def _is_met(request: ApprovalRequest) -> bool:
    decisions = queries.list_decisions(
        organization_id=request.organization_id, request_id=request.id
    )
    people = {one.decided_by for one in decisions if one.verdict == Verdict.APPROVE}
    return steps_met(steps=steps_from_json(request.steps), approvers=queries.roles_of(people))
