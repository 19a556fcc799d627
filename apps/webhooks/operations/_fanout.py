"""From committed events to what is owed to whom."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from apps.core import transactions
from apps.core.ids import encode_id
from apps.core.models import OutboxEvent
from apps.core.wall_clock import print_instant
from apps.webhooks import queries
from apps.webhooks.models import WebhookBody, WebhookDelivery, WebhookEndpoint, WebhookFanout
from apps.webhooks.operations import _shared
from apps.webhooks.rules import rendering, subscriptions
from apps.webhooks.states import DeliveryStatus

_CHUNK = 1000


@transactions.required
def fan_out(*, organization_id: UUID, committed: Sequence[OutboxEvent]) -> int:
    """
    Owe each event to every endpoint that wants it and was there before it; return how many.

    An endpoint that is off gets them set aside. Running again for the same events adds nothing.

    :raises RunAgainAfter: if an endpoint was switched, or its lanes changed, in between
    """
    endpoints = list(queries.list_endpoints(organization_id=organization_id).order_by("id"))
    owed = [
        _delivery(event, endpoint)
        for event in committed
        for endpoint in endpoints
        if _wants(endpoint, event)
    ]
    if not owed:
        return 0
    by_id = {event.id: event for event in committed}
    bodies = dict.fromkeys((each.event_id, each.api_version) for each in owed)
    WebhookBody.objects.bulk_create(
        [
            WebhookBody(
                organization_id=organization_id,
                event_id=event_id,
                api_version=version,
                body=rendering.render(envelope(by_id[event_id]), api_version=version),
            )
            for event_id, version in bodies
        ],
        ignore_conflicts=True,
        batch_size=_CHUNK,
    )
    WebhookDelivery.objects.bulk_create(owed, ignore_conflicts=True, batch_size=_CHUNK)
    counts = Counter(each.event_id for each in owed)
    WebhookFanout.objects.bulk_create(
        [
            WebhookFanout(organization_id=organization_id, event_id=id_, delivery_count=count)
            for id_, count in counts.items()
        ],
        ignore_conflicts=True,
        batch_size=_CHUNK,
    )
    _wake_lanes_of(organization_id, owed)
    return len(owed)


def envelope(event: OutboxEvent) -> dict[str, Any]:
    """Return an event as the API and webhooks show it, with data of the newest version."""
    return {
        "id": encode_id("evt", event.id),
        "type": event.type,
        "timestamp": print_instant(event.occurred_at),
        "api_version": rendering.VERSIONS[0],
        "organization_id": encode_id("org", event.organization_id),
        "sequence": event.sequence,
        "aggregate": {"type": event.aggregate_type, "id": event.aggregate_id},
        "data": event.data,
    }


def _wants(endpoint: WebhookEndpoint, event: OutboxEvent) -> bool:
    about = event.data.get("endpoint") if subscriptions.is_operational(event.type) else None
    return endpoint.created_at <= event.recorded_at and subscriptions.is_wanted(
        endpoint.event_types,
        type_=event.type,
        endpoint=encode_id("whe", endpoint.id),
        about=about,
    )


def _delivery(event: OutboxEvent, endpoint: WebhookEndpoint) -> WebhookDelivery:
    key = subscriptions.lane_key(event.aggregate_id)
    return WebhookDelivery(
        organization_id=event.organization_id,
        endpoint=endpoint,
        event_id=event.id,
        event_type=event.type,
        aggregate_id=event.aggregate_id,
        sequence=event.sequence,
        api_version=endpoint.api_version,
        lane_key=key,
        lane=subscriptions.lane_of(key, lanes=endpoint.lanes),
        status=DeliveryStatus.PAUSED if endpoint.sets_aside else DeliveryStatus.PENDING,
    )


def _wake_lanes_of(organization_id: UUID, owed: Sequence[WebhookDelivery]) -> None:
    # After the inserts: a lane's holder that lets go takes the same lock first and reads what is
    # due in a second statement, so it sees these rows, or this finds its lane at rest.
    places = {(each.endpoint_id, each.lane) for each in owed}
    lanes = queries.lock_lanes_of(organization_id=organization_id, places=places)
    # Who switches an endpoint or spreads its lanes has these locks as well: it sees these rows, or
    # this sees what it did. Then the rows are not what they should be, and the locks that would
    # be needed come before those held by now.
    taken_for = {queries.footing_of(each.endpoint) for each in owed}
    if not taken_for <= queries.list_footings(organization_id=organization_id):
        raise transactions.RunAgainAfter(lambda: None)
    _shared.wake(organization_id=organization_id, lanes=lanes, ends_rests=False)
