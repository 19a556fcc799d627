"""Reads of endpoints, deliveries, feed and inbox, and the only place here that locks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Final, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, Now

from apps.core import queries as core_queries
from apps.core import work
from apps.core.events import event_classes, public_type
from apps.core.models import OutboxEvent
from apps.webhooks.errors import (
    ConnectionNotFound,
    CursorExpired,
    DeliveryNotFound,
    EndpointNotFound,
    EventNotFound,
    InboundEventNotFound,
)
from apps.webhooks.models import (
    InboundEvent,
    ProviderConnection,
    ProviderSecret,
    WebhookAttempt,
    WebhookBody,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookLane,
    WebhookReplay,
    WebhookSecret,
)
from apps.webhooks.rules import retries, targets
from apps.webhooks.rules.targets import Policy
from apps.webhooks.states import DeliveryStatus, EndpointStatus, Ordering

_REPLAYED_MAX = 10_000
_COUNTED_MAX = 10_000
_OWED = """
    SELECT delivery.id
      FROM webhooks_webhookdelivery AS delivery
      JOIN unnest(%(organizations)s::uuid[], %(events)s::uuid[]) AS event(organization_id, id)
        ON delivery.organization_id = event.organization_id AND delivery.event_id = event.id
     ORDER BY delivery.id FOR UPDATE OF delivery
"""


def get_policy() -> Policy:
    """Return where this deployment lets webhooks go."""
    return Policy(
        ports=frozenset(settings.WEBHOOK_PORTS),
        allow_networks=targets.parse_networks(settings.WEBHOOK_ALLOW_NETWORKS),
        deny_networks=targets.parse_networks(settings.WEBHOOK_DENY_NETWORKS),
    )


def list_public_event_types() -> list[str]:
    """Return every type that a client can meet."""
    return sorted({public_type(kind.name) for kind in event_classes() if kind.public})


# --- Endpoints --------------------------------------------------------------------------------


def list_endpoints(*, organization_id: UUID) -> QuerySet[WebhookEndpoint]:
    """Return the organization's endpoints that were not deleted."""
    return WebhookEndpoint.objects.filter(organization_id=organization_id).exclude(
        status=EndpointStatus.DELETED
    )


def get_endpoint(*, organization_id: UUID, endpoint_id: UUID) -> WebhookEndpoint:
    """
    Return one endpoint.

    :raises EndpointNotFound: if there is none, or it was deleted
    """
    found = list_endpoints(organization_id=organization_id).filter(id=endpoint_id).first()
    if found is None:
        raise EndpointNotFound("No such webhook endpoint.")
    return found


def get_endpoint_for_update(*, organization_id: UUID, endpoint_id: UUID) -> WebhookEndpoint:
    """
    Return one endpoint, locked: the first lock of every act on it, before lanes and deliveries.

    :raises EndpointNotFound: if there is none, or it was deleted
    """
    found = (
        list_endpoints(organization_id=organization_id)
        .select_for_update(no_key=True)
        .filter(id=endpoint_id)
        .first()
    )
    if found is None:
        raise EndpointNotFound("No such webhook endpoint.")
    return found


def get_endpoint_any(*, organization_id: UUID, endpoint_id: UUID) -> WebhookEndpoint:
    """Return one endpoint, also a deleted one: what was sent to it is recorded all the same."""
    return WebhookEndpoint.objects.get(organization_id=organization_id, id=endpoint_id)


def get_endpoint_any_for_update(*, organization_id: UUID, endpoint_id: UUID) -> WebhookEndpoint:
    """Return one endpoint, locked, also a deleted one."""
    return WebhookEndpoint.objects.select_for_update(no_key=True).get(
        organization_id=organization_id, id=endpoint_id
    )


def lock_endpoints(*, organization_id: UUID) -> list[WebhookEndpoint]:
    """Return all endpoints of the organization, locked, so that their number can be judged."""
    rows = list_endpoints(organization_id=organization_id).order_by("id")
    return list(rows.select_for_update(no_key=True))


def lock_lanes(*, organization_id: UUID, endpoint_ids: Collection[UUID]) -> list[WebhookLane]:
    """Return the endpoints' lanes, locked in one order."""
    rows = WebhookLane.objects.filter(
        organization_id=organization_id, endpoint_id__in=endpoint_ids
    ).order_by("id")
    return list(rows.select_for_update(no_key=True))


def lock_lanes_of(
    *, organization_id: UUID, places: Collection[tuple[UUID, int]]
) -> list[WebhookLane]:
    """
    Return the lanes at these places, an endpoint and a number each, locked in the same order.

    For what owes a few of them something: who sends on the others waits for nobody.
    """
    of_them = reduce(or_, (Q(endpoint_id=id_, lane=lane) for id_, lane in places))
    rows = WebhookLane.objects.filter(of_them, organization_id=organization_id).order_by("id")
    return list(rows.select_for_update(no_key=True))


def list_signing_secrets(
    *, organization_id: UUID, endpoint_id: UUID, now: datetime
) -> list[WebhookSecret]:
    """Return the secrets that have not expired, newest first."""
    return list(
        WebhookSecret.objects.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=now),
            organization_id=organization_id,
            endpoint_id=endpoint_id,
        ).order_by("-id")
    )


# --- Lanes and what is due on them ------------------------------------------------------------


def get_database_time() -> datetime:
    """Return the time by the clock that leases, due times and circuits are on."""
    time: datetime
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        [(time,)] = cursor.fetchall()
    return time


def list_due_lane_ids(*, is_slow: bool, limit: int) -> list[UUID]:
    """Return lanes that are due and belong to these workers, oldest due first."""
    return list(
        WebhookLane.objects.filter(state__in=work.OPEN, next_attempt_at__lte=Now(), is_slow=is_slow)
        .order_by("next_attempt_at")
        .values_list("id", flat=True)[:limit]
    )


def list_due_deliveries(
    *, lane: WebhookLane, endpoint: WebhookEndpoint, limit: int
) -> list[WebhookDelivery]:
    """Return what is to be sent on this lane now, oldest due first."""
    rows = _sendable(lane=lane, endpoint=endpoint).filter(next_attempt_at__lte=Now())
    return list(rows.order_by("next_attempt_at", "id")[:limit])


def find_next_due(*, lane: WebhookLane, endpoint: WebhookEndpoint) -> datetime | None:
    """Return when the next delivery on this lane falls due, if one is waiting."""
    return (
        _sendable(lane=lane, endpoint=endpoint)
        .order_by("next_attempt_at")
        .values_list("next_attempt_at", flat=True)
        .first()
    )


def _sendable(*, lane: WebhookLane, endpoint: WebhookEndpoint) -> QuerySet[WebhookDelivery]:
    pending = WebhookDelivery.objects.filter(
        organization_id=lane.organization_id,
        endpoint_id=lane.endpoint_id,
        status=DeliveryStatus.PENDING,
    )
    rows = pending.filter(lane=lane.lane)
    if endpoint.ordering == Ordering.AGGREGATE:
        earlier = pending.filter(
            aggregate_id=OuterRef("aggregate_id"), sequence__lt=OuterRef("sequence")
        )
        rows = rows.filter(~Exists(earlier))
    return rows


class Body(NamedTuple):
    """What is sent of an event, and the trace in which it happened."""

    content: bytes
    traceparent: str


def has_pending_before(before: UUID) -> bool:
    """Say whether something of an event with an id below `before` is still to be sent."""
    return WebhookDelivery.objects.filter(
        status=DeliveryStatus.PENDING, event_id__lt=before
    ).exists()


def get_bodies(
    *, organization_id: UUID, event_ids: Collection[UUID], api_version: str
) -> dict[UUID, Body]:
    """Return the rendered bodies of these events in one version."""
    its_event = OutboxEvent.objects.filter(
        organization_id=organization_id, id=OuterRef("event_id")
    ).values("traceparent")
    rows = WebhookBody.objects.filter(
        organization_id=organization_id, event_id__in=event_ids, api_version=api_version
    ).values_list("event_id", "body", Coalesce(Subquery(its_event), Value("")))
    return {event_id: Body(bytes(body), trace) for event_id, body, trace in rows}


def list_traces(*, organization_id: UUID, event_ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the traces in which these events happened."""
    rows = OutboxEvent.objects.filter(organization_id=organization_id, id__in=event_ids)
    return dict(rows.values_list("id", "traceparent"))


# --- Deliveries and attempts ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DeliveryFilter:
    """What a list of deliveries is narrowed to; None leaves that side open."""

    endpoint_id: UUID | None = None
    event_id: UUID | None = None
    status: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


def list_deliveries(
    *, organization_id: UUID, wanted: DeliveryFilter | None = None
) -> QuerySet[WebhookDelivery]:
    """Return the organization's deliveries that fit."""
    wanted = wanted or DeliveryFilter()
    conditions = {
        "endpoint_id": wanted.endpoint_id,
        "event_id": wanted.event_id,
        "status": wanted.status,
        "created_at__gte": wanted.created_from,
        "created_at__lt": wanted.created_before,
    }
    given = {name: value for name, value in conditions.items() if value is not None}
    return WebhookDelivery.objects.filter(organization_id=organization_id, **given)


def get_delivery(*, organization_id: UUID, delivery_id: UUID) -> WebhookDelivery:
    """
    Return one delivery.

    :raises DeliveryNotFound: if the organization has no such delivery
    """
    found = list_deliveries(organization_id=organization_id).filter(id=delivery_id).first()
    if found is None:
        raise DeliveryNotFound("No such webhook delivery.")
    return found


def lock_deliveries(
    *, organization_id: UUID, delivery_ids: Collection[UUID]
) -> list[WebhookDelivery]:
    """Return deliveries, locked in one order."""
    rows = WebhookDelivery.objects.filter(organization_id=organization_id, id__in=delivery_ids)
    return list(rows.order_by("id").select_for_update(no_key=True))


def lock_owed_for(*, organization_ids: list[UUID], event_ids: list[UUID]) -> None:
    """Lock every delivery of these events of these organizations, so that they can go."""
    with connection.cursor() as cursor:
        cursor.execute(_OWED, {"organizations": organization_ids, "events": event_ids})


def lock_failed_since(
    *, organization_id: UUID, endpoint_id: UUID, since: datetime
) -> list[WebhookDelivery]:
    """Return the endpoint's failed deliveries created since then, at most 10 000, locked."""
    rows = WebhookDelivery.objects.filter(
        organization_id=organization_id,
        endpoint_id=endpoint_id,
        status=DeliveryStatus.FAILED,
        created_at__gte=since,
    )
    return list(rows.order_by("id").select_for_update(no_key=True)[:_REPLAYED_MAX])


def get_replay(*, organization_id: UUID, replay_id: UUID) -> WebhookReplay:
    """Return one replay that is known to be there."""
    return WebhookReplay.objects.get(organization_id=organization_id, id=replay_id)


def list_attempts(*, organization_id: UUID, delivery_id: UUID) -> QuerySet[WebhookAttempt]:
    """Return every attempt of one delivery."""
    return WebhookAttempt.objects.filter(organization_id=organization_id, delivery_id=delivery_id)


def count_failed_events(*, organization_id: UUID, endpoint_id: UUID, since: datetime) -> int:
    """Count the distinct events that the endpoint did not take since then; not our own faults."""
    return (
        WebhookAttempt.objects.filter(
            organization_id=organization_id, endpoint_id=endpoint_id, started_at__gte=since
        )
        .exclude(outcome__in=[retries.Outcome.SUCCEEDED, *retries.OURS])
        .values("delivery_id")
        .distinct()
        .count()
    )


def list_recent_durations_ms(*, organization_id: UUID, endpoint_id: UUID) -> list[int]:
    """Return how long the endpoint's last 20 attempts took."""
    return list(
        WebhookAttempt.objects.filter(organization_id=organization_id, endpoint_id=endpoint_id)
        .exclude(outcome__in=retries.OURS)
        .order_by("-id")
        .values_list("duration_ms", flat=True)[: retries.SLOW_SAMPLE]
    )


def is_among_slow(*, organization_id: UUID, endpoint_id: UUID) -> bool:
    """Say whether the workers of the slow endpoints send to this one."""
    return WebhookLane.objects.filter(
        organization_id=organization_id, endpoint_id=endpoint_id, is_slow=True
    ).exists()


@dataclass(frozen=True, kw_only=True)
class Counted:
    """How many deliveries there are, and when the oldest of them was made."""

    number: int
    oldest_made_at: datetime | None


def count_latest(*, organization_id: UUID, endpoint_id: UUID, status: DeliveryStatus) -> Counted:
    """Count those in this status among the endpoint's latest 10 000 deliveries."""
    latest = list_deliveries(
        organization_id=organization_id, wanted=DeliveryFilter(endpoint_id=endpoint_id)
    ).order_by("-id")[:_COUNTED_MAX]
    fits = Q(status=status)
    found = latest.aggregate(
        number=Count("id", filter=fits), oldest_made_at=Min("created_at", filter=fits)
    )
    return Counted(**found)


# --- The event feed ---------------------------------------------------------------------------

# The ordinal of a place behind all events of its batch.
BATCH_END: Final = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class FeedPlace:
    """A place in an organization's feed: its batch's position, and the place in the batch."""

    position: int
    ordinal: int


_FEED = """
    SELECT event.*, batch.position AS position
      FROM core_outbox_batch AS batch
      JOIN core_outbox_event AS event
        ON event.organization_id = batch.organization_id AND event.batch_id = batch.id
     WHERE batch.organization_id = %(organization)s AND batch.position IS NOT NULL
       AND event.public AND (%(types)s::text[] IS NULL OR event.type = ANY(%(types)s))
       {after}
     ORDER BY batch.position {order}, event.ordinal {order}
     LIMIT %(limit)s
"""
_AFTER = """
       AND batch.position {reach} %(position)s
       AND (batch.position, event.ordinal) {beyond} (%(position)s, %(ordinal)s)
"""


def list_events(
    *,
    organization_id: UUID,
    types: Sequence[str] | None,
    after: FeedPlace | None,
    ascending: bool,
    limit: int,
) -> list[OutboxEvent]:
    """
    Return the next events of the feed, each with its `position`.

    Positions are given under one lock after COMMIT, so whoever follows in ascending order misses
    nothing and meets nothing twice.

    :raises CursorExpired: if `after` lies before the oldest batch that is kept
    """
    condition = _AFTER.format(reach=">=" if ascending else "<=", beyond=">" if ascending else "<")
    sql = _FEED.format(after=condition if after else "", order="ASC" if ascending else "DESC")
    parameters = {
        "organization": organization_id,
        "types": types,
        "limit": limit,
        "position": after.position if after else None,
        "ordinal": after.ordinal if after else None,
    }
    found = list(OutboxEvent.objects.raw(sql, parameters))
    # Asked after the events: what is there by now was there when they were read.
    if after is not None and _is_expired(organization_id, after):
        raise CursorExpired("What followed is no longer kept; begin again without a cursor.")
    return found


def _is_expired(organization_id: UUID, place: FeedPlace) -> bool:
    dropped = core_queries.get_dropped_position(organization_id=organization_id)
    # Who has seen all of the last batch that went has missed nothing.
    is_before = (place.position, place.ordinal) < (dropped, BATCH_END)
    return dropped > 0 and is_before


def get_event(*, organization_id: UUID, event_id: UUID) -> OutboxEvent:
    """
    Return one public event.

    :raises EventNotFound: if the organization has no such event
    """
    found = OutboxEvent.objects.filter(
        organization_id=organization_id, id=event_id, public=True
    ).first()
    if found is None:
        raise EventNotFound("No such event.")
    return found


# --- The inbox --------------------------------------------------------------------------------


def find_provider_connection(*, provider: str, connection_id: UUID) -> ProviderConnection | None:
    """Return the connection that a hook's URL names, whoever's it is: a call says nothing else."""
    return ProviderConnection.objects.filter(id=connection_id, provider=provider).first()


def get_connection_for_update(*, organization_id: UUID, connection_id: UUID) -> ProviderConnection:
    """
    Return one connection, locked, so that its secrets can be judged.

    :raises ConnectionNotFound: if the organization has no such connection
    """
    found = (
        ProviderConnection.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=connection_id)
        .first()
    )
    if found is None:
        raise ConnectionNotFound("No such connection to a provider.")
    return found


def list_provider_secrets(*, connection: ProviderConnection, now: datetime) -> list[ProviderSecret]:
    """Return the secrets that a message may be signed with, newest first."""
    return list(
        ProviderSecret.objects.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=now),
            organization_id=connection.organization_id,
            connection=connection,
        ).order_by("-id")
    )


def lock_waiting_events(
    *, organization_id: UUID, provider: str, object_key: str
) -> list[InboundEvent]:
    """Return the events about this object that are not worked yet, locked in one order."""
    rows = InboundEvent.objects.filter(
        organization_id=organization_id,
        provider=provider,
        object_key=object_key,
        state__in=work.OPEN,
    )
    # Their bodies may be long, and are nothing to who makes an object known.
    return list(rows.order_by("id").defer("sealed_body").select_for_update(no_key=True))


def get_inbound_event_for_update(*, organization_id: UUID, inbound_event_id: UUID) -> InboundEvent:
    """
    Return one event of a provider, locked, whoever has leased it.

    :raises InboundEventNotFound: if the organization has no such event
    """
    found = (
        InboundEvent.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=inbound_event_id)
        .first()
    )
    if found is None:
        raise InboundEventNotFound("No such event of a provider.")
    return found
