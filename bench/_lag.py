"""How long an event waits for its fan-out, at a fixed rate of events; runs as a child."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from threading import Event as Flag
from threading import Thread
from typing import Any, Final
from uuid import UUID

from django.db import connection

from apps.webhooks.models import WebhookDelivery
from apps.webhooks.states import DeliveryStatus
from bench._events import OPENED, create_endpoint, open_organization, publish_at, wait_until
from bench._rounds import percentile
from bench.receiver import receiver

_PUBLISHERS: Final = 8
_LOOK_EVERY_SECONDS: Final = 0.05
# A fan-out's id is made in its transaction, which is over long before this.
_REACH_SECONDS: Final = 5.0
# Long after it failed its bound a run is still told by how much.
_DELIVERED_SECONDS_MAX: Final = 1_200.0

_FANNED_OUT: Final = """
    SELECT event_id, delivery_count, statement_timestamp()
      FROM webhooks_webhookfanout WHERE organization_id = %s AND id > %s
"""
_COMMITTED: Final = """
    SELECT event.id, batch.inserted_at
      FROM core_outbox_batch AS batch
      JOIN core_outbox_event AS event
        ON event.organization_id = batch.organization_id AND event.batch_id = batch.id
     WHERE batch.organization_id = %s AND event.type = %s
"""


def prepare(order: Mapping[str, Any]) -> Callable[[], dict[str, float]]:
    """Return what publishes at `rate` for `seconds` and says how long fan-outs took, in seconds."""
    return partial(_measure, order)


def _measure(order: Mapping[str, Any]) -> dict[str, float]:
    with receiver() as far:
        # Of an organization of its own: its events are not among those that are counted.
        warm_up = open_organization()
        create_endpoint(warm_up, far.url("/warm-up"), event_type=OPENED)
        _publish_and_deliver(warm_up, order["rate"], order["warm_up"])

        organization_id = open_organization()
        create_endpoint(organization_id, far.url("/prompt"), event_type=OPENED)
        watch = _Watch(organization_id)
        with watch:
            events = _publish_and_deliver(organization_id, order["rate"], order["seconds"])
        lags = sorted(_lags(organization_id, watch.seen))
        arrived = len(far.arrivals()["/prompt"])
    if (len(lags), arrived) != (events, events):
        msg = f"Of {events} events {len(lags)} were fanned out and {arrived} arrived."
        raise RuntimeError(msg)
    return {
        "events": events,
        "p50": percentile(lags, 0.5),
        "p99": percentile(lags, 0.99),
        "slowest": lags[-1],
    }


def _publish_and_deliver(organization_id: UUID, rate: float, seconds: float) -> int:
    events = publish_at(rate, seconds=seconds, organization_id=organization_id, threads=_PUBLISHERS)
    deliveries = WebhookDelivery.objects.filter(organization_id=organization_id)
    delivered = deliveries.filter(status=DeliveryStatus.SUCCEEDED)
    wait_until(
        lambda: delivered.count() == events,
        what=f"{events} events delivered",
        seconds=_DELIVERED_SECONDS_MAX,
        every=0.5,
    )
    return events


def _lags(organization_id: UUID, seen: Mapping[UUID, datetime]) -> list[float]:
    """Return the seconds from each event's record, just before COMMIT, to its fan-out's."""
    with connection.cursor() as cursor:
        cursor.execute(_COMMITTED, [organization_id, OPENED])
        return [(seen[id_] - at).total_seconds() for id_, at in cursor.fetchall()]


class _Watch:
    """
    Notes, on the database's clock, the first look at which each fan-out was committed.

    So a lag is at most one look too long, and never too short.
    """

    def __init__(self, organization_id: UUID) -> None:
        self.organization_id = organization_id
        self.seen: dict[UUID, datetime] = {}
        self._is_over = Flag()
        self._thread = Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        # What no look found in time counts as found now.
        self._look(UUID(int=0))

    def _run(self) -> None:
        try:
            while not self._is_over.wait(_LOOK_EVERY_SECONDS):
                self._look(_id_since(time.time() - _REACH_SECONDS))
        finally:
            connection.close()

    def _look(self, since: UUID) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_FANNED_OUT, [self.organization_id, since])
            for event_id, count, at in cursor.fetchall():
                if count != 1:
                    msg = f"An event was fanned out to {count} endpoints; there is one."
                    raise RuntimeError(msg)
                self.seen.setdefault(event_id, at)


def _id_since(seconds: float) -> UUID:
    """Return what every UUIDv7 made since then is greater than."""
    return UUID(int=int(1000 * seconds) << 80)
