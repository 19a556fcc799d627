"""
How much one key may ask: a rate shared by all processes, and so many requests at once.

The rate is GCRA, in one script on Redis's own clock, for the key and its organization together.
While Redis is away each process keeps buckets of its own with its share of the limit: never
unlimited. Requests at once are counted in the process that serves them, so that a crash forgets
them with it.
"""

import math
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import redis
import structlog
from django.conf import settings
from django.http import HttpRequest
from redis.exceptions import RedisError

from apps.core.api.caller import Caller
from apps.core.api.problems import ApiProblem

log = structlog.stdlib.get_logger("kassa.api")

_REDIS_SECONDS_MAX: Final = 0.05
# For so long Redis is not asked again after a failure: no request waits for what just failed.
_REDIS_REST_SECONDS: Final = 1.0
_LOCAL_BUCKETS_MAX: Final = 10_000
_READS: Final = frozenset({"GET", "HEAD"})

# KEYS: the buckets. ARGV: for each its interval and its tolerance, in microseconds.
_GCRA: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local retry, left, full, written = 0, math.huge, 0, {}
for i, key in ipairs(KEYS) do
  local interval, tolerance = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local due = math.max(tonumber(redis.call('GET', key) or now), now) + interval
  retry = math.max(retry, due - tolerance - now)
  if i == 1 then
    left = math.floor((tolerance - (due - now)) / interval)
    full = due - now
  end
  written[i] = due
end
if retry > 0 then return {0, retry, 0, full} end
for i, key in ipairs(KEYS) do
  redis.call('SET', key, string.format('%.0f', written[i]),
             'PX', math.ceil((written[i] - now) / 1000) + 1)
end
return {1, 0, left, full}
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """What is left to a key: requests at once, and seconds until the bucket is full again."""

    is_admitted: bool
    retry_seconds: float
    remaining: int
    full_seconds: float


@dataclass(frozen=True, slots=True)
class _Bucket:
    name: str
    per_second: float
    burst: int

    @property
    def interval(self) -> float:
        return 1 / self.per_second

    @property
    def tolerance(self) -> float:
        return self.burst / self.per_second


def admit(request: HttpRequest, caller: Caller) -> None:
    """
    Count a request against its key, or refuse it; `release` gives its place back.

    :raises ApiProblem: `rate_limited` (429) with Retry-After
    """
    _take_place(request, caller)
    rate = _measure(_buckets(request, caller))
    request.rate = rate  # type: ignore[attr-defined]  # read back by add_headers
    if not rate.is_admitted:
        raise _limited("Too many requests; wait as Retry-After says.", rate.retry_seconds)


def _buckets(request: HttpRequest, caller: Caller) -> list[_Bucket]:
    kind = "read" if request.method in _READS else "write"
    per_second, burst = settings.API_RATE_PER_SECOND, settings.API_RATE_BURST
    # One hash tag, so that a cluster keeps both on one node.
    tag = f"kassa:rate:{{{caller.organization_id}}}:{kind}"
    factor = settings.API_ORGANIZATION_FACTOR
    return [
        _Bucket(f"{tag}:{caller.api_key_id}", per_second, burst),
        _Bucket(tag, per_second * factor, burst * factor),
    ]


def _limited(detail: str, seconds: float) -> ApiProblem:
    return ApiProblem(
        "rate_limited", detail, headers={"Retry-After": str(max(1, math.ceil(seconds)))}
    )


# --- Rate ---------------------------------------------------------------------------------------

_redis_rests_until = 0.0


def _measure(buckets: list[_Bucket]) -> Rate:
    global _redis_rests_until  # noqa: PLW0603 - whether Redis is away is state of the process
    if time.monotonic() >= _redis_rests_until:
        try:
            return _measure_in_redis(buckets)
        except RedisError as fault:
            _redis_rests_until = time.monotonic() + _REDIS_REST_SECONDS
            log.warning("limiter_local", fault=type(fault).__name__)
    return _local.measure(buckets)


def _measure_in_redis(buckets: list[_Bucket]) -> Rate:
    arguments = [
        int(part * 1_000_000) for bucket in buckets for part in (bucket.interval, bucket.tolerance)
    ]
    admitted, retry, left, full = _script(settings.CACHE_URL)(
        keys=[bucket.name for bucket in buckets], args=arguments
    )
    return Rate(bool(admitted), retry / 1_000_000, max(0, left), full / 1_000_000)


@lru_cache(maxsize=1)
def _script(url: str) -> Any:  # noqa: ANN401 - the client's own callable
    client = redis.Redis.from_url(
        url, socket_timeout=_REDIS_SECONDS_MAX, socket_connect_timeout=_REDIS_SECONDS_MAX
    )
    return client.register_script(_GCRA)


class _LocalBuckets:
    """The same arithmetic in this process, with its share of each limit."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._lock = threading.Lock()

    def measure(self, buckets: list[_Bucket]) -> Rate:
        share = max(1, settings.WEB_PROCESSES)
        with self._lock:
            now = time.monotonic()
            if len(self._due) > _LOCAL_BUCKETS_MAX:
                self._due = {name: due for name, due in self._due.items() if due > now}
            due = {
                bucket.name: max(self._due.get(bucket.name, now), now) + bucket.interval * share
                for bucket in buckets
            }
            # A bucket's burst is shared out too: an interval longer by the share does that.
            retry = max(due[bucket.name] - bucket.tolerance - now for bucket in buckets)
            if retry <= 0:
                self._due |= due
        first = buckets[0]
        waits = due[first.name] - now
        left = int((first.tolerance - waits) / (first.interval * share))
        return Rate(retry <= 0, max(0.0, retry), max(0, left), waits)


_local: Final = _LocalBuckets()


# --- At once ------------------------------------------------------------------------------------

_in_flight: Final[Counter[str]] = Counter()
_in_flight_lock: Final = threading.Lock()


def _take_place(request: HttpRequest, caller: Caller) -> None:
    name = str(caller.api_key_id)
    allowed = max(1, settings.API_IN_FLIGHT_MAX // max(1, settings.WEB_PROCESSES))
    with _in_flight_lock:
        if _in_flight[name] >= allowed:
            raise _limited("Too many requests of this key are under way.", 1)
        _in_flight[name] += 1
    request.place = name  # type: ignore[attr-defined]  # given back by release


def release(request: HttpRequest) -> None:
    """Give back the place of a request, if it took one."""
    name = getattr(request, "place", None)
    if name is None:
        return
    del request.place  # type: ignore[attr-defined]  # set by _take_place
    with _in_flight_lock:
        _in_flight[name] -= 1
        if _in_flight[name] <= 0:
            del _in_flight[name]
