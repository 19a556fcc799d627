"""
What an act on an endpoint means for all that is open there, carried out in portions (ADR 0127).

An act says on the endpoint how it is to be, and brings a first portion in line; whatever is left, a
worker does. A portion goes by the endpoint as it is then, so acts in a row end as the last of them
has it. Meanwhile no lane is opened. Locks are taken in the order of everything here: endpoint, all
of its lanes, the row of this work, deliveries.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum, auto
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import F, QuerySet
from django.db.models.functions import Mod, Now

from apps.core import transactions, work
from apps.webhooks import queries
from apps.webhooks.models import WebhookChange, WebhookDelivery, WebhookEndpoint, WebhookLane
from apps.webhooks.operations import _shared
from apps.webhooks.states import DeliveryStatus, EndpointStatus

CHANGE_KIND: Final = "webhooks.change"
# Each is written with a row trigger and all indexes: of so many a web process is sure.
PORTION: Final = 1_000

# Along an index on columns that never change: what was passed is behind, whatever lane it is on by
# then, and what is added meanwhile is on the right one. Of the same place all go together.
_SPREAD: Final = """
    WITH portion AS MATERIALIZED (
        SELECT id, aggregate_id, sequence
          FROM webhooks_webhookdelivery
         WHERE organization_id = %(org)s AND endpoint_id = %(endpoint)s AND status = 'pending'
           AND (aggregate_id, sequence) > (%(aggregate)s, %(sequence)s)
         ORDER BY aggregate_id, sequence
         FETCH FIRST (%(limit)s) ROWS WITH TIES
    ), moved AS (
        UPDATE webhooks_webhookdelivery AS delivery SET lane = mod(delivery.lane_key, %(lanes)s)
          FROM portion
         WHERE delivery.organization_id = %(org)s AND delivery.id = portion.id
           AND delivery.lane <> mod(delivery.lane_key, %(lanes)s)
    )
    SELECT aggregate_id, sequence, count(*) OVER () FROM portion
     ORDER BY aggregate_id DESC, sequence DESC LIMIT 1
"""


class Progress(Enum):
    """How far a change is: all is in line, more is left, or a lane is held that it waits for."""

    DONE = auto()
    MORE = auto()
    WAITS = auto()


def begin_change(*, endpoint: WebhookEndpoint, lanes: Sequence[WebhookLane], now: datetime) -> None:
    """
    Bring a first portion of what is open in line with the endpoint, and have the rest done.

    Once all of it is, its lanes wake, if it is on.
    The endpoint and all its lanes are locked; what else the act says of it is stored by then.
    """
    key = {"organization_id": endpoint.organization_id, "endpoint_id": endpoint.id}
    found = queries.find_change_for_update(**key)
    change = found or WebhookChange(**key, state=work.WorkState.DONE)
    is_done = _go_on(endpoint, change, lanes, now=now) is Progress.DONE
    # One that is leased goes on by itself, as the endpoint is now; one that was set aside is for a
    # person to release.
    if not is_done and change.state in {work.WorkState.DONE, work.WorkState.PENDING}:
        change.state, change.attempts, change.next_attempt_at = work.WorkState.PENDING, 0, Now()
        work.nudge(CHANGE_KIND)
    if found is not None or not is_done:
        change.save()


@transactions.outermost
def carry_on(*, change: WebhookChange, now: datetime) -> Progress:
    """
    Do one more portion of a leased change; what `DONE` says of it is recorded with the last one.

    Who lost the lease has nothing left to do.
    """
    key = {"organization_id": change.organization_id, "endpoint_id": change.endpoint_id}
    endpoint = queries.get_endpoint_any_for_update(**key)
    lanes = queries.lock_lanes(
        organization_id=change.organization_id, endpoint_ids=[change.endpoint_id]
    )
    held = work.lock_leased(
        WebhookChange,
        organization_id=change.organization_id,
        row_id=change.id,
        lease_token=change.lease_token,
    )
    if held is None:
        return Progress.DONE
    progress = _go_on(endpoint, held, lanes, now=now)
    held.save(update_fields=["after_aggregate", "after_sequence"])
    if progress is Progress.DONE:
        work.mark_done(held)
    return progress


def is_set_aside(endpoint: WebhookEndpoint) -> bool:
    """Say whether all that is open of an endpoint that is off waits for what enabling says."""
    return endpoint.resume_from is None and not queries.has_pending(
        organization_id=endpoint.organization_id, endpoint_id=endpoint.id
    )


def _go_on(
    endpoint: WebhookEndpoint,
    change: WebhookChange,
    lanes: Sequence[WebhookLane],
    *,
    now: datetime,
) -> Progress:
    progress = _next_portion(endpoint, change, lanes, now=now)
    endpoint.is_changing = progress is not Progress.DONE
    endpoint.save(update_fields=["is_changing", "resume_from", "lanes"])
    if progress is Progress.DONE and endpoint.status == EndpointStatus.ENABLED:
        _shared.wake(organization_id=endpoint.organization_id, lanes=lanes)
    return progress


def _next_portion(
    endpoint: WebhookEndpoint,
    change: WebhookChange,
    lanes: Sequence[WebhookLane],
    *,
    now: datetime,
) -> Progress:
    """Do a portion of the first of these that is not done yet, and of the next if it is then."""
    if endpoint.status == EndpointStatus.DELETED:
        is_done = _cancel(endpoint, now=now)
        return Progress.DONE if is_done else Progress.MORE
    if endpoint.resume_from is not None:
        if not _resume(endpoint, since=endpoint.resume_from, now=now):
            return Progress.MORE
        endpoint.resume_from = None
    if endpoint.status == EndpointStatus.DISABLED and not _set_aside(endpoint):
        return Progress.MORE
    if endpoint.lanes != endpoint.max_in_flight:
        # What is under way on a lane stays there, and so all of one aggregate is on one.
        if any(each.state == work.WorkState.LEASED for each in lanes):
            return Progress.WAITS
        endpoint.lanes = endpoint.max_in_flight
        change.after_aggregate, change.after_sequence = "", 0
    is_done = change.after_sequence is None or _spread(endpoint, change)
    return Progress.DONE if is_done else Progress.MORE


def _cancel(endpoint: WebhookEndpoint, *, now: datetime) -> bool:
    """Close what is open; it is never sent, and its history stays. True if that was all."""
    for status in (DeliveryStatus.PENDING, DeliveryStatus.PAUSED):
        ids = _portion(endpoint, status)
        _rows(endpoint, ids).update(status=DeliveryStatus.CANCELED, closed_at=now)
        if len(ids) == PORTION:
            return False
    return True


def _resume(endpoint: WebhookEndpoint, *, since: datetime, now: datetime) -> bool:
    """Have what was set aside since then sent now, and close what is older; true if all was."""
    ids = _portion(endpoint, DeliveryStatus.PAUSED)
    rows = _rows(endpoint, ids)
    rows.filter(created_at__lt=since).update(status=DeliveryStatus.CANCELED, closed_at=now)
    rows.filter(created_at__gte=since).update(
        status=DeliveryStatus.PENDING,
        next_attempt_at=Now(),
        # While it lay aside the lanes may have changed.
        lane=Mod(F("lane_key"), endpoint.lanes),
    )
    return len(ids) < PORTION


def _set_aside(endpoint: WebhookEndpoint) -> bool:
    """Set what waits to be sent aside; true if that was all."""
    ids = _portion(endpoint, DeliveryStatus.PENDING)
    _rows(endpoint, ids).update(status=DeliveryStatus.PAUSED)
    return len(ids) < PORTION


def _spread(endpoint: WebhookEndpoint, change: WebhookChange) -> bool:
    """Put what follows where the change stands on its lane; true if that was all."""
    with connection.cursor() as cursor:
        cursor.execute(
            _SPREAD,
            {
                "org": endpoint.organization_id,
                "endpoint": endpoint.id,
                "aggregate": change.after_aggregate,
                "sequence": change.after_sequence,
                "limit": PORTION,
                "lanes": endpoint.lanes,
            },
        )
        last = cursor.fetchone()
    if last is None or last[2] < PORTION:
        change.after_aggregate, change.after_sequence = "", None
        return True
    change.after_aggregate, change.after_sequence, _ = last
    return False


def _portion(endpoint: WebhookEndpoint, status: DeliveryStatus) -> list[UUID]:
    return queries.lock_open_deliveries(
        organization_id=endpoint.organization_id,
        endpoint_id=endpoint.id,
        status=status,
        limit=PORTION,
    )


def _rows(endpoint: WebhookEndpoint, ids: list[UUID]) -> QuerySet[WebhookDelivery]:
    return WebhookDelivery.objects.filter(organization_id=endpoint.organization_id, id__in=ids)
