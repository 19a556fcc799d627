"""What was owed for events that are no longer kept, in portions: see ADR 0106."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import connection

from apps.core import retention, transactions
from apps.core.ids import first_id
from apps.webhooks import queries
from apps.webhooks.models import WebhookBody, WebhookDelivery, WebhookFanout

# An event is owed to sixteen endpoints at most, and has some ten attempts for each. Of one attempt
# each this is a tenth of a second, most of it the look at the pages, which is the same for fewer.
_PORTION: Final = 200

# Its event went with its week, nothing is to be sent, and nothing was done with it lately.
_OVER: Final = """
    SELECT found.organization_id, found.event_id
      FROM webhooks_webhookfanout AS found
     WHERE {chosen} AND found.id < %(since_id)s
       AND NOT EXISTS (
           SELECT FROM core_outbox_event AS event
            WHERE event.organization_id = found.organization_id AND event.id = found.event_id)
       AND NOT EXISTS (
           SELECT FROM webhooks_webhookdelivery AS delivery
            WHERE delivery.organization_id = found.organization_id
              AND delivery.event_id = found.event_id
              AND (delivery.status = 'pending' OR delivery.closed_at >= %(since)s
                   OR EXISTS (SELECT FROM webhooks_webhookattempt AS attempt
                               WHERE attempt.organization_id = delivery.organization_id
                                 AND attempt.delivery_id = delivery.id
                                 AND attempt.id >= %(since_id)s)))
     LIMIT %(limit)s
"""
_ON_PAGES: Final = "found.ctid >= %(first)s::tid AND found.ctid < %(beyond)s::tid"
_AMONG: Final = """(found.organization_id, found.event_id) IN (
    SELECT * FROM unnest(%(organizations)s::uuid[], %(events)s::uuid[]))"""
_REMOVE_ATTEMPTS: Final = """
    DELETE FROM webhooks_webhookattempt AS attempt
     USING webhooks_webhookdelivery AS delivery,
           unnest(%(organizations)s::uuid[], %(events)s::uuid[]) AS gone(organization_id, event_id)
     WHERE delivery.organization_id = gone.organization_id AND delivery.event_id = gone.event_id
       AND attempt.organization_id = delivery.organization_id AND attempt.delivery_id = delivery.id
"""
_REMOVE: Final = """
    DELETE FROM {table} AS owed
     USING unnest(%(organizations)s::uuid[], %(events)s::uuid[]) AS gone(organization_id, event_id)
     WHERE owed.organization_id = gone.organization_id AND owed.event_id = gone.event_id
"""
_OF_EVENTS: Final = (WebhookDelivery, WebhookBody, WebhookFanout)


def purge_deliveries(*, now: datetime) -> int:
    """
    Remove what was owed for events that are no longer kept; return for how many.

    Of one event all goes together: attempts, deliveries, bodies and the count. It stays as long as
    something of it is to be sent, or was done in the days for which events are kept.
    """
    since = now - timedelta(days=settings.EVENT_RETENTION_DAYS)
    return retention.go_along("webhooks_webhookfanout", partial(_purge, since))


@transactions.outermost
def _purge(since: datetime, first: str, beyond: str) -> int:
    over = _list_over(_ON_PAGES, since, {"first": first, "beyond": beyond})
    if not over["events"]:
        return 0
    queries.lock_owed_for(organization_ids=over["organizations"], event_ids=over["events"])
    # Again, as of now: one of them may have been asked for once more meanwhile.
    gone = _list_over(_AMONG, since, over)
    with connection.cursor() as cursor:
        cursor.execute(_REMOVE_ATTEMPTS, gone)
        for model in _OF_EVENTS:
            cursor.execute(_REMOVE.format(table=model._meta.db_table), gone)
    return len(gone["events"])


def _list_over(chosen: str, since: datetime, values: Mapping[str, Any]) -> dict[str, list[UUID]]:
    with connection.cursor() as cursor:
        cursor.execute(
            _OVER.format(chosen=chosen),
            {**values, "since": since, "since_id": first_id(since), "limit": _PORTION},
        )
        found = cursor.fetchall()
    return {"organizations": [one for one, _ in found], "events": [event for _, event in found]}
