"""What nobody handled when it came, worked once somebody does."""

from typing import Final
from uuid import UUID

from django.db.models.functions import Now

from apps.accounts import queries as accounts
from apps.core import audit, idempotency, transactions, work
from apps.core import queries as core
from apps.core.actors import Actor
from apps.core.work import WorkState
from apps.webhooks import queries, registry
from apps.webhooks.errors import InboundTypeUnhandled
from apps.webhooks.models import InboundEvent
from apps.webhooks.operations._inbox import INBOUND_KIND
from apps.webhooks.states import InboundOutcome

# Whoever may release work that was set aside.
REQUEUE: Final = "core.requeue_work"
RELEASED_AT_ONCE: Final = 10_000


@transactions.outermost
def release_ignored_events(
    *,
    organization_id: UUID,
    connection_id: UUID,
    type: str,  # noqa: A002
    reason: str,
    idempotency_key: str,
    actor: Actor,
) -> int:
    """
    Have a provider's events worked whose type nobody handled when they came; return how many.

    The oldest ten thousand at most: where so many were released there may be more. They are due
    now, and applied by rank as ever, so that one whose object went on meanwhile has no effect. What
    the provider wrote is kept for 90 days; what is older stays ignored. Replaying the key releases
    nothing anew and returns the first number.

    :raises CapabilityMissing: if the actor is staff who may not
    :raises ConnectionNotFound: if the organization has no such connection
    :raises InboundTypeUnhandled: if no app handles the type, here and now
    """
    claim = idempotency.claim(
        organization_id, idempotency_key, "release_ignored_events", connection_id, type, reason
    )
    accounts.require_capability(actor=actor, capability=REQUEUE, organization_id=organization_id)
    if claim.replayed:
        done = core.get_act_result(
            organization_id=organization_id, audit_event_id=claim.resource_id
        )
        return int(done["released"])
    # The lock makes two who release wait for each other, so that the second finds what is left.
    connection = queries.get_connection_for_update(
        organization_id=organization_id, connection_id=connection_id
    )
    if registry.find_handler(provider=connection.provider, type=type) is None:
        raise InboundTypeUnhandled("Nothing handles events of this type.", type=type)
    ids = queries.lock_ignored(connection=connection, type=type, limit=RELEASED_AT_ONCE)
    InboundEvent.objects.filter(organization_id=organization_id, id__in=ids).update(
        outcome=InboundOutcome.RECEIVED,
        decided_at=None,
        state=WorkState.PENDING,
        attempts=0,
        lapses=0,
        next_attempt_at=Now(),
    )
    # Its id is what the key stands for: a replay reads there how many it was.
    act = audit.row(
        "webhooks.release_ignored",
        connection,
        actor=actor,
        reason=reason,
        after={"type": type, "released": len(ids)},
    )
    act.id = claim.resource_id
    audit.record_all([act])
    work.nudge(INBOUND_KIND)
    return len(ids)
