"""A table of idempotency keys, and the job that removes the old ones; runs as a child."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from django.db import connection

from apps.core import clock, retention

_CHUNK: Final = 200_000
# In the order in which they were made, as they lie in a table that only grew: over forty days, the
# first ten of which are over.
_FILL: Final = """
    INSERT INTO core_idempotency_key (organization_id, key, operation, fingerprint, prefix,
                                      resource_id, created_at)
    SELECT lpad(to_hex(number %% 200), 32, '0')::uuid, gen_random_uuid()::text, 'post_transfer',
           decode(md5(number::text) || md5(number::text), 'hex'), 'tr', gen_random_uuid(),
           now() - interval '40 days' * (1 - number / %(keys)s::float8) - interval '1 hour'
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS number
"""
_COUNT: Final = "SELECT count(*) FROM core_idempotency_key"


def prepare(order: Mapping[str, Any]) -> Callable[[], dict[str, float]]:
    """Fill the table; return what goes through it twice, once with nothing left to remove."""
    keys = order["keys"]
    with connection.cursor() as cursor:
        for first in range(1, keys + 1, _CHUNK):
            last = min(keys, first + _CHUNK - 1)
            cursor.execute(_FILL, {"keys": keys, "first": first, "last": last})
        cursor.execute("VACUUM (ANALYZE) core_idempotency_key")
    return partial(_measure, keys)


def _measure(keys: int) -> dict[str, float]:
    took, slowest = _pass()
    removed = keys - _count()
    if not keys // 4 <= removed <= keys // 4 + keys // 900:
        msg = f"Of {keys} keys {removed} were removed, not the quarter that is over."
        raise RuntimeError(msg)
    looked, _ = _pass()
    return {
        "removed_per_s": removed / took,
        "looked_at_per_s": (keys - removed) / looked,
        "removed": removed,
        "pass_s": took,
        "slowest_step_ms": 1000 * slowest,
    }


def _pass() -> tuple[float, float]:
    """Go through the table as the job does; return how long that took, and its longest step."""
    begun = last = time.monotonic()
    slowest = 0.0
    for _ in retention.purge_idempotency_keys("", clock.now(), ""):
        now = time.monotonic()
        last, slowest = now, max(slowest, now - last)
    return time.monotonic() - begun, slowest


def _count() -> int:
    with connection.cursor() as cursor:
        cursor.execute(_COUNT)
        [(count,)] = cursor.fetchall()
    return int(count)
