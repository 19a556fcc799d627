"""
The inbox: what a provider told is kept once, and then worked by rank, never by order of arrival.

Locks are taken in one order: the event's row, then what its handler locks.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog
from django.db.models.functions import Now

from apps.accounts import queries as accounts
from apps.core import audit, encryption, idempotency, transactions, work
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.webhooks import queries, registry
from apps.webhooks.errors import InboundBodyGone, InboundEventSettled, InboundObjectNotFound
from apps.webhooks.models import InboundEvent, ProviderConnection
from apps.webhooks.registry import InboundHandler, InboundMessage, Standing
from apps.webhooks.rules import inbound
from apps.webhooks.rules.inbound import Reading
from apps.webhooks.states import INBOUND_WAITS, InboundOutcome

log = structlog.stdlib.get_logger("kassa.webhooks")

LINK: Final = "webhooks.link_event"
INBOUND_KIND: Final = "webhooks.inbound"
BODY_COLUMN: Final = "webhooks_inboundevent.sealed_body"
# Any byte is one character of it and comes back as it was.
_BYTES: Final = "latin-1"


@transactions.outermost
def receive_event(
    *, connection: ProviderConnection, reading: Reading, body: bytes, now: datetime
) -> None:
    """
    Keep what a provider told, proved by a signature or fetched from itself, and have it worked.

    An event that is there already changes nothing, so a provider may send it as often as it likes.
    """
    id_ = new_id()
    event = InboundEvent(
        id=id_,
        organization_id=connection.organization_id,
        connection=connection,
        provider=connection.provider,
        event_id=reading.event_id,
        type=reading.type,
        object_key=reading.object_key,
        sealed_body=encryption.seal(
            connection.organization_id, BODY_COLUMN, id_, body.decode(_BYTES)
        ),
        received_at=now,
    )
    InboundEvent.objects.bulk_create([event], ignore_conflicts=True)
    work.nudge(INBOUND_KIND)


@transactions.outermost
def work_event(*, claimed: InboundEvent, actor: Actor, now: datetime) -> None:
    """
    Do what a leased event asks for, its outcome in the same transaction as its effect.

    What its handler raises undoes all of it; the row then waits for another try.
    """
    event = _lock(claimed)
    if event is None:
        return
    if registry.find_provider(event.provider) is None:
        work.mark_undeclared(event, error_code="provider_unknown")
        return
    handler = registry.find_handler(provider=event.provider, type=event.type)
    if handler is None:
        _decide(event, InboundOutcome.IGNORED, now=now)
        work.mark_done(event)
        return
    if event.sealed_body is None:
        # Released after its time: nobody can read any more what it says.
        work.mark_failed(event, error_code="body_gone")
        return
    message = _message(event, actor=actor, now=now)
    standing = handler.lock(message)
    if standing is None:
        _wait(event, now=now)
        return
    _settle(event, handler, standing, message)
    work.mark_done(event)


@transactions.outermost
def link_event(
    *,
    organization_id: UUID,
    inbound_event_id: UUID,
    object_key: str,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> InboundEvent:
    """
    Say what an event is about that found no object, and work it there and then, by rank as ever.

    :raises CapabilityMissing: if the actor is staff who may not
    :raises InboundEventNotFound: if the organization has no such event
    :raises InboundEventSettled: if it is not one that found no object
    :raises InboundBodyGone: if what the provider wrote is no longer kept
    :raises InboundObjectNotFound: if its handler finds nothing by this key
    """
    claim = idempotency.claim(
        organization_id, idempotency_key, "link_event", inbound_event_id, object_key, reason
    )
    accounts.require_capability(actor=actor, capability=LINK, organization_id=organization_id)
    event = queries.get_inbound_event_for_update(
        organization_id=organization_id, inbound_event_id=inbound_event_id
    )
    if claim.replayed:
        return event
    handler = registry.find_handler(provider=event.provider, type=event.type)
    if handler is None or event.outcome not in INBOUND_WAITS:
        raise InboundEventSettled("Only an event that found no object is linked to one.")
    if event.sealed_body is None:
        raise InboundBodyGone("What the provider wrote is no longer kept.")
    before = _standing(event)
    event.linked_key = object_key
    event.save(update_fields=["linked_key"])
    # As if it were released and a worker had it; whoever has leased it finds it done.
    work.mark_released(event)
    message = _message(event, actor=actor, now=now)
    standing = handler.lock(message)
    if standing is None:
        raise InboundObjectNotFound("There is nothing of this name that it could be about.")
    _settle(event, handler, standing, message)
    work.mark_done(event)
    audit.record(LINK, event, actor=actor, reason=reason, before=before, after=_standing(event))
    return event


@transactions.required
def match_parked(*, organization_id: UUID, provider: str, object_key: str) -> None:
    """
    Have what waits for this object worked at once; called by whoever makes the object known.

    In that transaction, and only there: a worker that looks for the object at this moment does not
    find it and is waited for, so none of the two can wait for the other. An event that comes
    between this call and COMMIT is parked for a second.
    """
    waiting = queries.lock_waiting_events(
        organization_id=organization_id, provider=provider, object_key=object_key
    )
    # Who has leased one looks for the object after this transaction.
    ids = [event.id for event in waiting if event.state == work.WorkState.PENDING]
    if ids:
        InboundEvent.objects.filter(organization_id=organization_id, id__in=ids).update(
            next_attempt_at=Now()
        )
        work.nudge(INBOUND_KIND)


def _lock(claimed: InboundEvent) -> InboundEvent | None:
    event = work.lock_leased(
        InboundEvent,
        organization_id=claimed.organization_id,
        row_id=claimed.id,
        lease_token=claimed.lease_token,
    )
    if event is None:
        log.info("work_lease_lost", kind=INBOUND_KIND, row_id=str(claimed.id))
    return event


def _message(event: InboundEvent, *, actor: Actor, now: datetime) -> InboundMessage:
    sealed = bytes(event.sealed_body or b"")
    body = encryption.unseal(event.organization_id, BODY_COLUMN, event.id, sealed)
    return InboundMessage(
        organization_id=event.organization_id,
        inbound_event_id=event.id,
        provider=event.provider,
        type=event.type,
        event_id=event.event_id,
        object_key=event.linked_key or event.object_key,
        received_at=event.received_at,
        actor=actor,
        now=now,
        body=body.encode(_BYTES),
    )


def _settle(
    event: InboundEvent, handler: InboundHandler, standing: Standing, message: InboundMessage
) -> None:
    """Apply a forward transition; anything else is kept without effect."""
    rank = handler.rank_of(message)
    if not inbound.is_forward(rank=rank, standing=standing.rank, is_final=standing.is_final):
        _decide(event, InboundOutcome.SUPERSEDED, now=message.now, rank=rank)
        return
    told = handler.apply(standing.subject, message)
    _decide(
        event,
        InboundOutcome.APPLIED,
        now=message.now,
        rank=rank,
        effect_type=told.aggregate_type,
        effect_id=told.aggregate_id,
        effect_sequence=told.sequence,
    )


def _wait(event: InboundEvent, *, now: datetime) -> None:
    """Park an event whose object nobody knows; after three days it waits for a person."""
    delay = inbound.look_again_seconds(waited=now - event.received_at)
    if delay is None or event.outcome == InboundOutcome.UNMATCHED:
        _decide(event, InboundOutcome.UNMATCHED, now=now)
        work.mark_failed(event, error_code="object_unknown")
        log.warning("inbound_event_unmatched", inbound_event_id=str(event.id))
        return
    _decide(event, InboundOutcome.PARKED, now=now)
    work.mark_waiting(event, error_code="object_unknown", delay_seconds=delay)


def _standing(event: InboundEvent) -> dict[str, object]:
    return {
        "outcome": str(event.outcome),
        "object": event.linked_key or event.object_key,
        "effect": event.effect_id,
    }


def _decide(
    event: InboundEvent,
    outcome: InboundOutcome,
    *,
    now: datetime,
    **more: Any,  # noqa: ANN401 - columns of the row
) -> None:
    values = {"outcome": outcome, "decided_at": now, **more}
    for name, value in values.items():
        setattr(event, name, value)
    event.save(update_fields=list(values))
