"""
What a lane's holder asks before it sends, and locks before it records (ADR 0120).

Each is one trip to Postgres. Under READ COMMITTED every statement of a trip sees what was committed
until it began: what follows a lock is read under it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from apps.core import statements
from apps.webhooks.models import WebhookLane
from apps.webhooks.rules import retries
from apps.webhooks.rules.retries import Health
from apps.webhooks.states import DeliveryStatus

# The ordering is looked up by the same statement, which follows the lane's lock: whoever changes it
# has that lock too, and wakes only the lanes that nobody holds.
_SENDABLE_AMONG: Final = """
      FROM {rows} AS delivery
     WHERE delivery.organization_id = %(org)s AND delivery.endpoint_id = %(endpoint)s
       AND delivery.lane = %(lane)s AND delivery.status = 'pending'
       AND (NOT EXISTS (
                SELECT FROM webhooks_webhookendpoint AS ordered
                 WHERE ordered.organization_id = %(org)s AND ordered.id = %(endpoint)s
                   AND ordered.ordering = 'aggregate')
            OR NOT EXISTS (
                SELECT FROM webhooks_webhookdelivery AS earlier
                 WHERE earlier.organization_id = %(org)s AND earlier.endpoint_id = %(endpoint)s
                   AND earlier.aggregate_id = delivery.aggregate_id
                   AND earlier.sequence < delivery.sequence AND earlier.status = 'pending'))
"""
_SENDABLE: Final = _SENDABLE_AMONG.format(rows="webhooks_webhookdelivery")
# What is held back is looked at one by one, and of a hot aggregate that may be all that is on the
# lane. What comes next is mostly among the oldest; only if none of them is, all are looked at. If
# some are, and the turn has room, the newest are looked at too.
_LOOKED_AT: Final = 1_000
_SENDABLE_AT_ONE_END: Final = _SENDABLE_AMONG.format(
    rows=f"""(
           SELECT * FROM webhooks_webhookdelivery AS one
            WHERE one.organization_id = %(org)s AND one.endpoint_id = %(endpoint)s
              AND one.lane = %(lane)s AND one.status = 'pending'
              AND one.next_attempt_at <= statement_timestamp()
            ORDER BY one.next_attempt_at {{way}}, one.id {{way}} LIMIT {_LOOKED_AT})"""  # noqa: S608  (of constants)
)
# The endpoint is looked at once more, under the lane's lock: an act that this waited for had all
# the lanes' locks, and left what it had not come to yet as it was.
_DUE_AMONG: Final = """
    WITH due AS MATERIALIZED (
        SELECT delivery.id, delivery.event_id, delivery.api_version, delivery.attempts_made,
               delivery.next_attempt_at {sendable}
           AND delivery.next_attempt_at <= statement_timestamp()
           AND EXISTS (
               SELECT FROM webhooks_webhookendpoint AS sent_to
                WHERE sent_to.organization_id = %(org)s AND sent_to.id = %(endpoint)s
                  AND sent_to.status = 'enabled' AND NOT sent_to.is_changing)
         ORDER BY delivery.next_attempt_at, delivery.id
         LIMIT %(limit)s
    )
    SELECT due.id, due.event_id, due.attempts_made, rendered.body,
           coalesce((SELECT event.traceparent FROM core_outbox_event AS event
                      WHERE event.organization_id = %(org)s AND event.id = due.event_id), '')
      FROM due LEFT JOIN webhooks_webhookbody AS rendered
        ON rendered.organization_id = %(org)s AND rendered.event_id = due.event_id
           AND rendered.api_version = due.api_version
     ORDER BY due.next_attempt_at, due.id
"""
_DUE_LONGEST: Final = _DUE_AMONG.format(sendable=_SENDABLE_AT_ONE_END.format(way=""))
_DUE_LATEST: Final = _DUE_AMONG.format(sendable=_SENDABLE_AT_ONE_END.format(way="DESC"))
_DUE: Final = _DUE_AMONG.format(sendable=_SENDABLE)
_NEXT_DUE: Final = f"SELECT min(delivery.next_attempt_at) {_SENDABLE}"
_HELD: Final = """
       lane.organization_id = %(org)s AND lane.id = %(lane_id)s
       AND lane.state = 'leased' AND lane.lease_token = %(token)s
"""
# Where anything about the endpoint is to be decided first, no lane is found, and none is locked:
# the endpoint's lock comes before it.
_LOCK_STEADY: Final = f"""
    SELECT TRUE
      FROM webhooks_webhooklane AS lane
      JOIN webhooks_webhookendpoint AS endpoint
        ON endpoint.organization_id = lane.organization_id AND endpoint.id = lane.endpoint_id
     WHERE {_HELD}
       AND endpoint.status = 'enabled' AND NOT endpoint.is_changing
       AND endpoint.lanes = endpoint.max_in_flight
       AND endpoint.circuit_open_until IS NULL
       FOR NO KEY UPDATE OF lane
"""  # noqa: S608  (of constants)
_LOCK_HELD: Final = f"""
    SELECT lane.is_slow FROM webhooks_webhooklane AS lane
     WHERE {_HELD} FOR NO KEY UPDATE
"""  # noqa: S608  (of constants)
_ENDPOINT: Final = """
    SELECT endpoint.revision, endpoint.circuit_openings, endpoint.url, clock_timestamp(),
           endpoint.ordering = 'aggregate', secret.id, secret.sealed
      FROM webhooks_webhookendpoint AS endpoint
      LEFT JOIN webhooks_webhooksecret AS secret
        ON secret.organization_id = %(org)s AND secret.endpoint_id = endpoint.id
           AND (secret.expires_at IS NULL OR secret.expires_at > %(now)s)
     WHERE endpoint.organization_id = %(org)s AND endpoint.id = %(endpoint)s
     ORDER BY secret.id DESC
"""
# Not of an endpoint that is well and stays so: healthy lanes do not wait for each other.
_LOCK_HEALTH: Final = """
    SELECT unreached_in_a_row, circuit_openings, circuit_open_until, first_failure_at
      FROM webhooks_webhookendpoint
     WHERE organization_id = %(org)s AND id = %(endpoint)s
       AND (%(is_judged)s OR unreached_in_a_row > 0 OR circuit_openings > 0
            OR circuit_open_until IS NOT NULL OR first_failure_at IS NOT NULL)
       FOR NO KEY UPDATE
"""
# By id alone: for their status Postgres might read all that an organization is owed.
_LOCK_DELIVERIES: Final = """
    SELECT id, attempts, event_sequence, status FROM webhooks_webhookdelivery
     WHERE organization_id = %(org)s AND id = ANY(%(ids)s)
     ORDER BY id
       FOR NO KEY UPDATE
"""
# What counts is named here and not given: of a list that Postgres does not know when it plans it
# expects next to nothing to be left, and then it reads and sorts all attempts there ever were.
_OURS: Final = ", ".join([f"'{outcome.value}'" for outcome in sorted(retries.OURS)])
_STANDING: Final = f"""
    SELECT endpoint.revision, clock_timestamp(),
           ARRAY(SELECT attempt.duration_ms FROM webhooks_webhookattempt AS attempt
                  WHERE attempt.organization_id = %(org)s AND attempt.endpoint_id = %(endpoint)s
                    AND attempt.outcome NOT IN ({_OURS})
                  ORDER BY attempt.id DESC LIMIT {retries.SLOW_SAMPLE})
      FROM webhooks_webhookendpoint AS endpoint
     WHERE endpoint.organization_id = %(org)s AND endpoint.id = %(endpoint)s
"""  # noqa: S608


class Due(NamedTuple):
    """One delivery that is due; its body is None where what was rendered is gone."""

    delivery_id: UUID
    event_id: UUID
    attempts_made: int
    body: bytes | None
    traceparent: str


class Sealed(NamedTuple):
    """A secret that has not expired, as it is stored."""

    id: UUID
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What is due on a lane, oldest due first, and how its endpoint is reached as of then."""

    due: Sequence[Due]
    # Whether this is all that is due; of an ordered endpoint, all among those looked at.
    is_all: bool
    revision: int
    circuit_openings: int
    url: str
    database_now: datetime
    # By this process's own steady clock, when the database's was read.
    asked_at: float
    # Newest first.
    secrets: Sequence[Sealed]


class Pending(NamedTuple):
    """A locked delivery that waits for its next attempt."""

    id: UUID
    attempts: int
    event_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What attempts are recorded into: the locked rows, and the endpoint as it is under them."""

    is_held: bool
    # Locked if something about it is to be decided; None: it is well, and is not locked.
    health: Health | None
    is_slow: bool
    revision: int
    database_now: datetime
    # Of the endpoint's last attempts, those that are recorded now among them.
    durations_ms: Sequence[int]
    pending: Sequence[Pending]


def open_steady_lane(*, lane: WebhookLane, limit: int, now: datetime) -> Opening | None:
    """
    Lock a leased lane and return what it is to send, if there is nothing to decide before that.

    None, and no lock, if the lease was lost, or the endpoint is off or being changed, or its
    circuit is open.
    """
    locked = statements.ask(_LOCK_STEADY, _lease(lane))
    opening = _ask_opening(lane=lane, limit=limit, now=now)
    return opening() if locked.rows() else None


def open_locked_lane(*, lane: WebhookLane, limit: int, now: datetime) -> Opening:
    """Return what a lane is to send whose endpoint was looked at, and which was locked before."""
    return _ask_opening(lane=lane, limit=limit, now=now)()


def _ask_opening(*, lane: WebhookLane, limit: int, now: datetime) -> Callable[[], Opening]:
    asked = {**_place(lane), "limit": limit}
    due = statements.ask(_DUE_LONGEST, asked)
    reached = statements.ask(
        _ENDPOINT, {"org": lane.organization_id, "endpoint": lane.endpoint_id, "now": now}
    )

    def read() -> Opening:
        rows = reached.rows()
        [(revision, circuit_openings, url, database_now, is_ordered, *_), *_] = rows
        found = due.rows()
        if not found:
            found = statements.run(_DUE, asked)
        elif is_ordered and len(found) < limit:
            # What just fell due does not wait until a hot aggregate's oldest were sent one by one.
            latest = statements.run(_DUE_LATEST, asked)
            found = [*found, *(row for row in latest if row not in found)][:limit]
        return Opening(
            due=[Due(*row) for row in found],
            is_all=len(found) < limit,
            revision=revision,
            circuit_openings=circuit_openings,
            url=url,
            database_now=database_now,
            asked_at=time.monotonic(),
            secrets=[Sealed(*row[5:]) for row in rows if row[5] is not None],
        )

    return read


def find_next_due(*, lane: WebhookLane) -> datetime | None:
    """Return when the next delivery on this lane falls due, if one is waiting."""
    due: datetime | None
    [(due,)] = statements.run(_NEXT_DUE, _place(lane))
    return due


def lock_for_record(
    *,
    lane: WebhookLane,
    delivery_ids: Sequence[UUID],
    is_judged: bool,
    append: Callable[[], object],
) -> Standing:
    """
    Lock what a record of attempts may change: endpoint, lane, deliveries, in this order.

    The endpoint is locked only if it `is_judged` by these attempts, or is not well. `append` sends
    the attempts themselves, which are stored also where the lease was lost.
    """
    endpoint = {"org": lane.organization_id, "endpoint": lane.endpoint_id}
    health = statements.ask(_LOCK_HEALTH, {**endpoint, "is_judged": is_judged})
    held = statements.ask(_LOCK_HELD, _lease(lane))
    append()
    deliveries = statements.ask(
        _LOCK_DELIVERIES, {"org": lane.organization_id, "ids": statements.uuids(delivery_ids)}
    )
    standing = statements.ask(_STANDING, endpoint)
    [(revision, database_now, durations_ms)] = standing.rows()
    lanes = held.rows()
    return Standing(
        is_held=bool(lanes),
        health=next((_health(*row) for row in health.rows()), None),
        is_slow=bool(lanes and lanes[0][0]),
        revision=revision,
        database_now=database_now,
        durations_ms=durations_ms,
        pending=[
            Pending(*row) for *row, status in deliveries.rows() if status == DeliveryStatus.PENDING
        ],
    )


def _health(
    unreached_in_a_row: int,
    circuit_openings: int,
    circuit_open_until: datetime | None,
    first_failure_at: datetime | None,
) -> Health:
    return Health(
        unreached_in_a_row=unreached_in_a_row,
        circuit_openings=circuit_openings,
        circuit_open_until=circuit_open_until,
        first_failure_at=first_failure_at,
    )


def _lease(lane: WebhookLane) -> dict[str, object]:
    return {"org": lane.organization_id, "lane_id": lane.id, "token": lane.lease_token}


def _place(lane: WebhookLane) -> dict[str, object]:
    return {"org": lane.organization_id, "endpoint": lane.endpoint_id, "lane": lane.lane}
