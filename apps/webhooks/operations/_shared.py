"""What the verbs of this app have in common: lanes, which are made and woken."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from django.db import connection

from apps.core import work
from apps.webhooks import queries
from apps.webhooks.models import WebhookEndpoint, WebhookLane

# What a member of staff needs who edits an endpoint, or has it sent something.
EDIT: Final = "webhooks.edit_endpoint"
LANE_KIND: Final = "webhooks.lane"
SLOW_LANE_KIND: Final = "webhooks.slow_lane"

# A lane that is leased is left alone: its holder reads the new minimum when it lets go, after this
# transaction, since both take the lane's row lock. One that rests says why, by a code.
_WAKE: Final = """
    UPDATE webhooks_webhooklane
       SET next_attempt_at = CASE WHEN state = 'done' THEN clock_timestamp()
                                  WHEN state = 'pending' AND (%s OR last_error_code = '')
                                  THEN least(next_attempt_at, clock_timestamp())
                                  ELSE next_attempt_at END,
           attempts = CASE WHEN state = 'done' THEN 0 ELSE attempts END,
           state = CASE WHEN state = 'done' THEN 'pending' ELSE state END
     WHERE organization_id = %s AND id = ANY(%s)
"""


def lane_kind(*, is_slow: bool) -> str:
    """Return the kind of work that an endpoint's lanes are, by how it answers."""
    return SLOW_LANE_KIND if is_slow else LANE_KIND


def wake(*, organization_id: UUID, lanes: Iterable[WebhookLane], ends_rests: bool = True) -> None:
    """
    Make locked lanes due now, and tell a worker.

    A lane that rests, after a fault of ours or while the circuit is open, is due now only if this
    `ends_rests`: that something more is owed does not end what it rests for.
    """
    kinds_of = {lane.id: lane_kind(is_slow=lane.is_slow) for lane in lanes}
    if not kinds_of:
        return
    with connection.cursor() as cursor:
        cursor.execute(_WAKE, [ends_rests, organization_id, list(kinds_of)])
    # Those of the endpoints that answer slowly have workers of their own.
    for kind in sorted(set(kinds_of.values())):
        work.nudge(kind)


def add_lanes(*, endpoint: WebhookEndpoint) -> None:
    """Make the lanes that the endpoint's `max_in_flight` asks for and that are not there."""
    # Each is worked by who works the others: `move_to_queue` moves them all, or none.
    is_slow = queries.is_among_slow(
        organization_id=endpoint.organization_id, endpoint_id=endpoint.id
    )
    rows = [
        WebhookLane(
            organization_id=endpoint.organization_id,
            endpoint=endpoint,
            lane=lane,
            state=work.WorkState.DONE,
            is_slow=is_slow,
        )
        for lane in range(endpoint.max_in_flight)
    ]
    WebhookLane.objects.bulk_create(rows, ignore_conflicts=True)
