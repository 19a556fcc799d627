"""
The inbox: what a provider told is kept once, and then worked by rank, never by order of arrival.

Locks are taken in one order: the event's row, then what its handler locks.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

import structlog
from django.db.models.functions import Now

from apps.accounts import queries as accounts
from apps.core import (
    audit,
    context,
    counters,
    encryption,
    failpoints,
    idempotency,
    statements,
    transactions,
    work,
)
from apps.core.actors import Actor
from apps.core.events import Event
from apps.core.failpoints import Failpoint
from apps.core.ids import new_id
from apps.webhooks import queries, registry
from apps.webhooks.errors import InboundBodyGone, InboundEventSettled, InboundObjectNotFound
from apps.webhooks.models import InboundEvent, ProviderConnection
from apps.webhooks.registry import InboundMessage
from apps.webhooks.rules import inbound
from apps.webhooks.rules.inbound import Reading
from apps.webhooks.states import INBOUND_WAITS, InboundOutcome

log = structlog.stdlib.get_logger("kassa.webhooks")

LINK: Final = "webhooks.link_event"
INBOUND_KIND: Final = "webhooks.inbound"
BODY_COLUMN: Final = "webhooks_inboundevent.sealed_body"
# Any byte is one character of it and comes back as it was.
_BYTES: Final = "latin-1"
_DECIDED: Final = counters.Counter(
    "kassa_inbound_events_total",
    "Looks at events of providers, by what came of them.",
    ("outcome",),
)
# How long events that share a transaction may keep it; those that are left are worked one by one.
_SHARED_SECONDS_MAX: Final = 5.0
# The rows are locked. What a handler published goes in with the same trip, and with COMMIT.
_FINISH: Final = """
    UPDATE webhooks_inboundevent AS event
       SET state = 'done', lapses = 0, last_error_code = '', lease_until = NULL, lease_token = NULL,
           outcome = decided.outcome, decided_at = %(now)s, rank = decided.rank::int,
           effect_type = decided.effect_type, effect_id = decided.effect_id,
           effect_sequence = decided.effect_sequence::bigint
      FROM unnest(%(ids)s::uuid[], %(outcomes)s::text[], %(ranks)s::text[],
                  %(types)s::text[], %(effects)s::text[], %(sequences)s::text[])
           AS decided(id, outcome, rank, effect_type, effect_id, effect_sequence)
     WHERE event.organization_id = %(org)s AND event.id = decided.id
"""


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
        traceparent=context.current().traceparent,
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
    if event.sealed_body is None:
        # Released after its time: nobody can read any more what it says.
        work.mark_failed(event, error_code="body_gone")
        return
    decided = _settle(event, actor=actor, now=now)
    if decided is None:
        _wait(event, now=now)
        return
    _finish(event.organization_id, [decided], now=now)


@transactions.outermost
def work_events(
    *, claimed: Sequence[InboundEvent], actor: Actor, now: datetime
) -> tuple[int, list[InboundEvent]]:
    """
    Do what leased events of one organization ask for, all in one transaction.

    Return how many were decided, and those that are left, to be worked one by one: whose object
    nobody knows, and for which there was no time. What a handler raises undoes all of it.
    """
    ends = time.monotonic() + _SHARED_SECONDS_MAX
    decided, left = [], []
    # By their objects: of two such transactions one waits for the other, and not each for both.
    events = work.lock_all_leased(InboundEvent, claimed)
    for event in sorted(events, key=lambda each: (each.object_key, each.id)):
        made = None
        is_known = registry.find_provider(event.provider) is not None
        if is_known and event.sealed_body is not None and time.monotonic() < ends:
            with context.in_trace(event.traceparent):
                made = _settle(event, actor=actor, now=now)
        if made is None:
            left.append(event)
        else:
            decided.append(made)
    if decided:
        _finish(events[0].organization_id, decided, now=now)
    return len(decided), left


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
        organization_id,
        idempotency_key,
        "link_event",
        inbound_event_id,
        object_key,
        reason,
        prefix="ine",
        acts_on=inbound_event_id,
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
    decided = _settle(event, actor=actor, now=now)
    if decided is None:
        raise InboundObjectNotFound("There is nothing of this name that it could be about.")
    _finish(organization_id, [decided], now=now)
    event.refresh_from_db()
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


@dataclass(frozen=True, slots=True)
class _Decided:
    """What becomes of an event, and the event of ours that tells its effect."""

    id: UUID
    outcome: InboundOutcome
    rank: int | None = None
    effect: Event | None = None


def _settle(event: InboundEvent, *, actor: Actor, now: datetime) -> _Decided | None:
    """
    Apply a forward transition, its effect before this returns; anything else is without effect.

    None if nobody knows the object.
    """
    handler = registry.find_handler(provider=event.provider, type=event.type)
    if handler is None:
        return _Decided(event.id, InboundOutcome.IGNORED)
    message = _message(event, actor=actor, now=now)
    standing = handler.lock(message)
    if standing is None:
        return None
    rank = handler.rank_of(message)
    if not inbound.is_forward(rank=rank, standing=standing.rank, is_final=standing.is_final):
        return _Decided(event.id, InboundOutcome.SUPERSEDED, rank)
    told = handler.apply(standing.subject, message)
    return _Decided(event.id, InboundOutcome.APPLIED, rank, told)


def _finish(organization_id: UUID, decided: Sequence[_Decided], *, now: datetime) -> None:
    """Record what became of locked events, and that they are done."""
    transactions.on_commit(partial(_count, [each.outcome for each in decided]))
    ranks, effects = [each.rank for each in decided], [each.effect for each in decided]
    statements.send(
        _FINISH,
        {
            "org": organization_id,
            "now": now,
            "ids": statements.uuids([each.id for each in decided]),
            "outcomes": statements.texts([each.outcome.value for each in decided]),
            "ranks": statements.texts([None if rank is None else str(rank) for rank in ranks]),
            "types": statements.texts([told.aggregate_type if told else "" for told in effects]),
            "effects": statements.texts([told.aggregate_id if told else "" for told in effects]),
            "sequences": statements.texts(
                [str(told.sequence) if told else None for told in effects]
            ),
        },
    )
    failpoints.reach(Failpoint.INBOX_DECIDED)


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


def _decide(event: InboundEvent, outcome: InboundOutcome, *, now: datetime) -> None:
    event.outcome, event.decided_at = outcome, now
    event.save(update_fields=["outcome", "decided_at"])
    transactions.on_commit(partial(_count, [outcome]))


def _count(outcomes: Sequence[InboundOutcome]) -> None:
    for outcome in outcomes:
        _DECIDED.add(outcome=outcome.value)
