"""Claims in a large table of work rows; runs as a child, in a database of its own."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db import connection

from apps.core import work
from apps.core.models import EventWork
from apps.core.work import WorkState
from bench._rounds import percentile

_LEASE_SECONDS: Final = 60
_WARM_UP: Final = 20
_CHUNK: Final = 100_000

# One in five is due, the oldest since longest; the others are done, and stay in the table. The
# oldest are one organization's backlog, if there is to be one; then many organizations' in turn.
_FILL: Final = """
    INSERT INTO core_event_work (id, organization_id, batch_id, consumer, state, attempts, lapses,
                                 next_attempt_at, last_error_code, traceparent)
    SELECT uuidv7(),
           lpad(to_hex(CASE WHEN i <= %(backlog)s THEN 1 ELSE 2 + i / 5 %% %(organizations)s END),
                32, '0')::uuid,
           uuidv7(), 'webhooks',
           CASE WHEN i %% 5 = 0 THEN 'pending' ELSE 'done' END, 1, 0,
           now() - (%(rows)s - i) * interval '1 millisecond', '', ''
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i
"""


def prepare(order: Mapping[str, Any]) -> Callable[[], dict[str, float]]:
    """Fill the table and claim for a while; return what claims and says how long that took."""
    _fill({name: order[name] for name in ("rows", "backlog", "organizations")})
    done: set[UUID] = set()
    for _ in range(min(_WARM_UP, order["claims"])):
        _claim(order["limit"], done)
    return partial(_measure, order["claims"], order["limit"], done)


def _fill(given: dict[str, int]) -> None:
    with connection.cursor() as cursor:
        for first in range(1, given["rows"] + 1, _CHUNK):
            last = min(given["rows"], first + _CHUNK - 1)
            cursor.execute(_FILL, given | {"first": first, "last": last})
        cursor.execute("VACUUM (ANALYZE) core_event_work")


def _measure(claims: int, limit: int, done: set[UUID]) -> dict[str, float]:
    took = sorted(_claim(limit, done) for _ in range(claims))
    finished = EventWork.objects.filter(state=WorkState.DONE, id__in=list(done)).count()
    if finished != len(done):
        msg = f"Of {len(done)} claimed rows {finished} are done."
        raise RuntimeError(msg)
    return {"p50": percentile(took, 0.5), "p99": percentile(took, 0.99), "slowest": took[-1]}


def _claim(limit: int, done: set[UUID]) -> float:
    """Claim, and record what was claimed as done; return how long the claim took, in seconds."""
    began = time.perf_counter()
    claimed = work.claim_due(EventWork, limit=limit, lease_seconds=_LEASE_SECONDS)
    seconds = time.perf_counter() - began
    ids = {row.id for row in claimed}
    if len(ids) != limit or ids & done:
        msg = f"A claim of {limit} rows leased {len(ids)}, {len(ids & done)} of them once more."
        raise RuntimeError(msg)
    # Outside of what is measured, as in a worker: dead entries stay behind where claims look.
    EventWork.objects.filter(id__in=ids).update(
        state=WorkState.DONE, lease_until=None, lease_token=None
    )
    done |= ids
    return seconds
