"""Opening the approval request of an act on the books, which always takes a second person."""

from datetime import datetime
from uuid import UUID

from apps.approvals import operations as approvals
from apps.approvals import queries as requests
from apps.approvals.models import ApprovalRequest
from apps.core import idempotency
from apps.core.actors import Actor
from apps.core.errors import StateConflict
from apps.core.ids import encode_id
from apps.ledger.errors import TwoPeopleNeeded
from apps.ledger.registry import AskedFor


def asked_before(organization_id: UUID, request_id: UUID) -> AskedFor:
    """Return the request as it is now: what a replayed key answers."""
    request = requests.get_request(organization_id=organization_id, request_id=request_id)
    return AskedFor(request.id, request.state)


def refuse_second(
    act: str,
    refusal: type[StateConflict],
    *,
    organization_id: UUID,
    subject_id: UUID,
    now: datetime,
) -> None:
    """
    Refuse what waits for a second person already; one whose time is over ends here.

    The subject is locked by the caller.

    :raises StateConflict: the refusal that was given, which names the request
    """
    waiting = approvals.lock_waiting(
        organization_id=organization_id, act=act, subject_id=subject_id, now=now
    )
    if waiting is not None:
        raise refusal(
            "This waits for a second person already.", approval=encode_id("apr", waiting.id)
        )


def open_request(
    act: str,
    *,
    organization_id: UUID,
    subject_id: UUID,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> ApprovalRequest:
    """
    Open the request; its subject is locked by the caller, so nobody opens another meanwhile.

    :raises TwoPeopleNeeded: if the policy in force asks nobody else
    """
    request = approvals.request_approval(
        organization_id=organization_id,
        act=act,
        subject_id=subject_id,
        requester_principal=actor.principal,
        actor=actor,
        now=now,
    )
    if request is None:
        # A policy that asks nobody is no second person, and the ledger wants one.
        raise TwoPeopleNeeded("The policy in force asks nobody else, and this needs two.")
    # The request has an id of its own, and from now on the key stands for it.
    idempotency.answer_with(organization_id, idempotency_key, request.id)
    return request
