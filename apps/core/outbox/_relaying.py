"""Committed batches get their position in the organisation's feed, and a row per consumer."""

import time
from collections import deque
from typing import Final
from uuid import UUID

import structlog
from django.db import connection

from apps.core import failpoints, queries, transactions, work, working
from apps.core.failpoints import Failpoint
from apps.core.models import EventWork, OutboxBatch
from apps.core.outbox._consuming import CONSUME_KIND, HARD_SECONDS, consumer_names

log = structlog.get_logger(__name__)

RELAY_KIND: Final = "core.relay"
# How long one claim of the relay goes on numbering.
_TURN_SECONDS: Final = 5.0
_PORTION: Final = 500
_ORGANIZATIONS_MAX: Final = 1_000
_DONE: Final = work.WorkState.DONE.value
_NUMBER: Final = """
    UPDATE core_outbox_batch AS batch
       SET position = given.place + %s, state = 'done', lapses = 0, last_error_code = '',
           lease_until = NULL, lease_token = NULL
      FROM unnest(%s::uuid[]) WITH ORDINALITY AS given(id, place)
     WHERE batch.organization_id = %s AND batch.id = given.id
"""


def relay(*, limit: int = 500, seconds_max: float = _TURN_SECONDS) -> int:
    """Give committed batches their position and consumers their work; return how many were due."""
    ends = time.monotonic() + seconds_max
    claimed = work.claim_due(OutboxBatch, limit=limit, lease_seconds=work.lease_of(HARD_SECONDS))
    waiting = {batch.organization_id: None for batch in claimed}
    if len(claimed) == limit:
        # A claim sees past no backlog here (ADR 0115); but what it leased is not what is numbered.
        waiting |= dict.fromkeys(queries.list_unnumbered_organizations(limit=_ORGANIZATIONS_MAX))
    turns = deque(waiting)
    while turns:
        organization_id = turns.popleft()
        begun = time.monotonic()
        try:
            number = _relay_portion(organization_id=organization_id)
            if number == _PORTION:
                # Behind the others, which need not wait for all that one has.
                turns.append(organization_id)
        # The boundary: a feed that cannot go on holds up no other. Its batches' leases lapse.
        except Exception:
            log.exception("feed_not_relayed", organization_id=str(organization_id))
        else:
            seconds = time.monotonic() - begun
            working.count(seconds, kind=RELAY_KIND, outcome=_DONE, rows=number)
        if time.monotonic() > ends:
            break
    if turns:
        # The time was over before theirs: what is left is for who comes next.
        left = set(turns)
        work.give_back(OutboxBatch, [one for one in claimed if one.organization_id in left])
    return len(claimed)


def relay_organization(*, organization_id: UUID) -> None:
    """Give every batch that this organisation has committed its position, due or not."""
    # In portions, so that a long backlog is no long transaction.
    while _relay_portion(organization_id=organization_id) == _PORTION:
        pass


@transactions.outermost
def _relay_portion(*, organization_id: UUID) -> int:
    """
    Number the organisation's oldest committed batches, whoever has leased them; return how many.

    A batch is never numbered before one that was committed earlier, even if the worker that leased
    the earlier one is slow or dead: an aggregate's events keep their order in the feed.
    """
    # The head's lock makes one relay at a time number this organisation's batches.
    head = queries.lock_feed_head(organization_id=organization_id)
    traces = queries.lock_unnumbered_batches(organization_id=organization_id, limit=_PORTION)
    ids = list(traces)
    if not ids:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_NUMBER, [head.last_position, ids, organization_id])
    head.last_position += len(ids)
    head.save(update_fields=["last_position"])
    names = consumer_names()
    rows = [
        EventWork(organization_id=organization_id, batch_id=id_, consumer=name, traceparent=trace)
        for id_, trace in traces.items()
        for name in names
    ]
    EventWork.objects.bulk_create(rows, ignore_conflicts=True)
    failpoints.reach(Failpoint.OUTBOX_NUMBERED)
    if rows:
        work.nudge(CONSUME_KIND)
    return len(ids)
