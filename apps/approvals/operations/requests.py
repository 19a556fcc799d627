"""Asking for approval, and the ends that no person decides: expiry, withdrawal, staleness."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from apps.approvals import events, queries, registry
from apps.approvals.models import ApprovalRequest
from apps.approvals.registry import Act, Resolution
from apps.approvals.rules import required_steps, snapshot_digest, steps_to_json
from apps.approvals.states import RequestState
from apps.core import audit, outbox, transactions
from apps.core.actors import Actor

APPROVAL_LIFE: Final = timedelta(hours=72)
_CLOCK: Final = Actor.job("approvals.clock")


@transactions.required
def request_approval(
    *,
    organization_id: UUID,
    act: str,
    subject_id: UUID,
    requester_principal: str,
    actor: Actor,
    now: datetime,
) -> ApprovalRequest | None:
    """
    Open a request for what the policy in force asks of this subject; None if it asks nobody.

    The subject is locked by the caller and has no open request. It lives for 72 hours, by the
    clock.
    """
    registered = registry.get_act(act)
    version, policy = queries.find_policy(organization_id=organization_id, act=registered)
    steps = required_steps(policy=policy, facts=registered.facts(organization_id, subject_id))
    if not steps:
        return None
    request = ApprovalRequest.objects.create(
        organization_id=organization_id,
        act=act,
        subject_type=registered.subject_type,
        subject_id=subject_id,
        steps=steps_to_json(steps),
        policy_version=version,
        snapshot_digest=digest_of(registered, organization_id, subject_id),
        requested_by=str(actor),
        requester_principal=requester_principal,
        requested_at=now,
        expires_at=now + APPROVAL_LIFE,
    )
    outbox.publish(events.ApprovalRequested.of(request, now=now), actor=actor, now=now)
    return request


def digest_of(act: Act, organization_id: UUID, subject_id: UUID) -> bytes:
    """Return the digest of what the subject is now; the subject is locked."""
    return snapshot_digest(act.snapshot(organization_id, subject_id))


@transactions.required
def withdraw_approval(
    *, organization_id: UUID, act: str, subject_id: UUID, actor: Actor, now: datetime
) -> None:
    """Close the subject's open request, if any: what it was about will not happen."""
    request = queries.lock_open_request(
        organization_id=organization_id, act=act, subject_id=subject_id
    )
    if request is not None:
        close(request, state=RequestState.WITHDRAWN, actor=actor, now=now)


@transactions.outermost
def expire_approval(*, organization_id: UUID, request_id: UUID, now: datetime) -> bool:
    """Expire a request whose time is over; False if it was closed or lives on."""
    return expire_now(organization_id=organization_id, request_id=request_id, now=now)


def expire_now(*, organization_id: UUID, request_id: UUID, now: datetime) -> bool:
    """Expire it within this transaction, and let its app undo what it was about."""
    request, act = lock_with_subject(organization_id=organization_id, request_id=request_id)
    if request.state != RequestState.OPEN or now < request.expires_at:
        return False
    close(request, state=RequestState.EXPIRED, actor=_CLOCK, now=now)
    act.on_expired(resolution(request, reason="", actor=_CLOCK, now=now))
    return True


def lock_waiting(
    *, organization_id: UUID, act: str, subject_id: UUID, now: datetime
) -> ApprovalRequest | None:
    """
    Return the subject's request that waits for somebody, locked, or None.

    One whose time is over by the clock ends here, whether or not the sweeper ran. The subject is
    locked by the caller.
    """
    found = queries.lock_open_request(
        organization_id=organization_id, act=act, subject_id=subject_id
    )
    if found is not None and now >= found.expires_at:
        expire_now(organization_id=organization_id, request_id=found.id, now=now)
        return None
    return found


def renew_now(*, organization_id: UUID, request_id: UUID, now: datetime) -> None:
    """Void the decisions of a request whose subject changed, and ask anew."""
    request, act = lock_with_subject(organization_id=organization_id, request_id=request_id)
    digest = digest_of(act, organization_id, request.subject_id)
    if request.state != RequestState.OPEN or digest == bytes(request.snapshot_digest):
        return
    close(request, state=RequestState.STALE, actor=_CLOCK, now=now)
    renewed = request_approval(
        organization_id=organization_id,
        act=request.act,
        subject_id=request.subject_id,
        requester_principal=request.requester_principal,
        actor=_CLOCK,
        now=now,
    )
    if renewed is None:
        # What it became needs nobody: the change itself was the last word.
        act.on_approved(
            Resolution(
                organization_id=organization_id,
                request_id=request_id,
                subject_id=request.subject_id,
                snapshot_digest=digest,
                reason="",
                actor=_CLOCK,
                now=now,
            )
        )


def lock_with_subject(*, organization_id: UUID, request_id: UUID) -> tuple[ApprovalRequest, Act]:
    """
    Lock the subject, then its request, and return the request as it is now.

    :raises ApprovalNotFound: if the organization has no such request
    """
    seen = queries.get_request(organization_id=organization_id, request_id=request_id)
    act = registry.get_act(seen.act)
    # The subject goes first everywhere, so that an act on it and a decision about it never wait
    # for each other in a circle.
    act.lock(organization_id, seen.subject_id)
    request = queries.get_request_for_update(organization_id=organization_id, request_id=request_id)
    return request, act


def close(request: ApprovalRequest, *, state: RequestState, actor: Actor, now: datetime) -> None:
    """Move an open request to its end; audited and told to staff."""
    request.state, request.closed_at = state, now
    request.save(update_fields=["state", "closed_at"])
    audit.record(
        "approvals.close_request", request, actor=actor, after={"act": request.act, "state": state}
    )
    outbox.publish(events.ApprovalClosed.of(request, now=now), actor=actor, now=now)


def resolution(request: ApprovalRequest, *, reason: str, actor: Actor, now: datetime) -> Resolution:
    """Return what the app is told about this end."""
    return Resolution(
        organization_id=request.organization_id,
        request_id=request.id,
        subject_id=request.subject_id,
        snapshot_digest=bytes(request.snapshot_digest),
        reason=reason,
        actor=actor,
        now=now,
    )
