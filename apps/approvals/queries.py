"""Reads of approvals, and the only place here that locks."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from apps.accounts.models import Staff
from apps.approvals.errors import ApprovalNotFound
from apps.approvals.models import ApprovalDecision, ApprovalPolicy, ApprovalRequest
from apps.approvals.registry import Act
from apps.approvals.rules import (
    Policy,
    people_missing,
    policy_from_json,
    steps_from_json,
    steps_met,
)
from apps.approvals.states import PolicyState, RequestState, Verdict

_STAFF = "staff:"


def get_request(*, organization_id: UUID, request_id: UUID) -> ApprovalRequest:
    """
    Return one request, unlocked.

    :raises ApprovalNotFound: if the organization has no such request
    """
    found = ApprovalRequest.objects.filter(organization_id=organization_id, id=request_id).first()
    if found is None:
        raise ApprovalNotFound("There is no such approval request.")
    return found


def get_request_for_update(*, organization_id: UUID, request_id: UUID) -> ApprovalRequest:
    """Return one request, locked; its subject must be locked before."""
    # Serializes two last approvals: the second sees the first's decision and finds it closed.
    return ApprovalRequest.objects.select_for_update(no_key=True).get(
        organization_id=organization_id, id=request_id
    )


def lock_open_request(
    *, organization_id: UUID, act: str, subject_id: UUID
) -> ApprovalRequest | None:
    """Return the subject's open request for this act, locked, or None."""
    # The subject is locked by the caller: nobody opens or closes a request of it meanwhile.
    return (
        ApprovalRequest.objects.select_for_update(no_key=True)
        .filter(
            organization_id=organization_id,
            act=act,
            subject_id=subject_id,
            state=RequestState.OPEN,
        )
        .first()
    )


def find_open_request(
    *, organization_id: UUID, subject_type: str, subject_id: UUID, now: datetime
) -> ApprovalRequest | None:
    """
    Return the subject's request that may be decided at `now`, for whatever act, or None.

    The oldest, of several. One whose time is over waits for nobody, whether or not it was swept.
    """
    return (
        ApprovalRequest.objects.filter(
            organization_id=organization_id,
            subject_type=subject_type,
            subject_id=subject_id,
            state=RequestState.OPEN,
            expires_at__gt=now,
        )
        .order_by("requested_at", "id")
        .first()
    )


def list_open_requests(
    *, organization_id: UUID | None = None, limit: int = 500
) -> Sequence[ApprovalRequest]:
    """Return open requests, oldest first: one organization's, or everybody's for staff."""
    requests = ApprovalRequest.objects.filter(state=RequestState.OPEN)
    if organization_id is not None:
        requests = requests.filter(organization_id=organization_id)
    return list(requests.order_by("requested_at", "id")[:limit])


def asks_for(roles: Iterable[str]) -> Q:
    """Return what is true of the requests that somebody with one of these roles may fill."""
    asked = Q(pk__in=[])
    for role in roles:
        asked |= Q(steps__contains=[{"role": role}]) | Q(steps__contains=[{"or": [role]}])
    return asked


def list_expired(*, now: datetime, limit: int = 500) -> Sequence[ApprovalRequest]:
    """Return open requests whose time is over, of every organization."""
    return list(
        ApprovalRequest.objects.filter(state=RequestState.OPEN, expires_at__lte=now).order_by(
            "expires_at", "id"
        )[:limit]
    )


def list_decisions(*, organization_id: UUID, request_id: UUID) -> Sequence[ApprovalDecision]:
    """Return a request's decisions, oldest first."""
    return list(
        ApprovalDecision.objects.filter(
            organization_id=organization_id, request_id=request_id
        ).order_by("id")
    )


def find_policy(*, organization_id: UUID, act: Act) -> tuple[int, Policy]:
    """Return the version and terms in force for this act; version 0 is the one that ships."""
    row = ApprovalPolicy.objects.filter(
        organization_id=organization_id, act=act.name, state=PolicyState.IN_FORCE
    ).first()
    return (row.version, policy_from_json(row.terms)) if row else (0, act.default_policy)


def get_policy_for_update(*, organization_id: UUID, policy_id: UUID) -> ApprovalPolicy:
    """Return a policy version, locked."""
    # Serializes its decision with the replacing of the version in force.
    return ApprovalPolicy.objects.select_for_update(no_key=True).get(
        organization_id=organization_id, id=policy_id
    )


def list_policies(*, organization_id: UUID, act: str) -> Sequence[ApprovalPolicy]:
    """Return every version of an act's policy, newest first."""
    return list(
        ApprovalPolicy.objects.filter(organization_id=organization_id, act=act).order_by("-version")
    )


def roles_of(principals: Collection[str]) -> dict[str, frozenset[str]]:
    """Return the roles that these people hold now; who is deactivated holds none."""
    ids = [p.removeprefix(_STAFF) for p in principals if p.startswith(_STAFF)]
    people = Staff.objects.filter(id__in=ids, is_active=True).prefetch_related("grants")
    held = {
        f"{_STAFF}{person.pk}": frozenset(grant.role for grant in person.grants.all())
        for person in people
    }
    return {principal: held.get(principal, frozenset()) for principal in principals}


def find_lapsed(*, organization_id: UUID, digests: Mapping[UUID, bytes]) -> frozenset[UUID]:
    """
    Return which of these approved requests hold no longer.

    One lapses when its subject's digest (by request id) is another than was agreed to, or when so
    many approvers have left that its steps are not met any more. Fixed number of statements.
    """
    requests = ApprovalRequest.objects.filter(organization_id=organization_id, id__in=digests)
    decisions = ApprovalDecision.objects.filter(
        organization_id=organization_id, request_id__in=digests, verdict=Verdict.APPROVE
    )
    given: dict[UUID, list[str]] = {}
    for decision in decisions:
        given.setdefault(decision.request_id, []).append(decision.decided_by)
    held = roles_of({person for people in given.values() for person in people})
    standing = {
        request.id
        for request in requests
        if request.state == RequestState.APPROVED
        and bytes(request.snapshot_digest) == digests[request.id]
        and steps_met(
            steps=steps_from_json(request.steps),
            approvers={person: held[person] for person in given.get(request.id, ())},
        )
    }
    return frozenset(digests) - standing


def count_people(request: ApprovalRequest) -> tuple[int, int]:
    """Return how many people a request needs, and how many of them have agreed."""
    return count_people_of(organization_id=request.organization_id, request_ids=[request.id])[
        request.id
    ]


def count_people_of(
    *, organization_id: UUID, request_ids: Collection[UUID]
) -> dict[UUID, tuple[int, int]]:
    """Return, by request, how many people it needs and how many of them have agreed so far."""
    requests = ApprovalRequest.objects.filter(organization_id=organization_id, id__in=request_ids)
    approvers: dict[UUID, dict[str, frozenset[str]]] = {}
    for decision in ApprovalDecision.objects.filter(
        organization_id=organization_id, request_id__in=request_ids, verdict=Verdict.APPROVE
    ):
        roles = frozenset(decision.roles)
        approvers.setdefault(decision.request_id, {})[decision.decided_by] = roles
    counted = {}
    for request in requests:
        steps = steps_from_json(request.steps)
        needed = sum(step.count for step in steps)
        missing = people_missing(steps=steps, approvers=approvers.get(request.id, {}))
        counted[request.id] = (needed, needed - missing)
    return counted
