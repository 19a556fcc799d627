"""
How much one key may ask: a rate shared by all processes, and so many requests at once (`places`).

Who has no key, as providers that sign what they send, is counted by the address it calls from.

The rate is GCRA, in one script on Redis's own clock, for the key and its organization together.
While Redis is away each process keeps buckets of its own with its share of the limit: never
unlimited.

Asking Redis costs more than all else the API does with a request, so a process that is kept busy by
a key takes a few of its requests at once and hands them out itself. What it takes is counted in
Redis there and then, so all processes together never admit more than the limit; what it has not
handed out after a twentieth of a second is forfeited. So a request may be counted that much before
it is admitted, and a client may lose, in each process and each such moment, one less than what was
taken: at most a fiftieth of its burst and never more than 31. A process asks for one, for twice as
many when it ran out in time, and begins again when it gets less than it asked for: a client that is
not busy, or whose burst is below 100, is counted request by request.
"""

import ipaddress
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import redis
import structlog
from django.conf import settings
from django.http import HttpRequest
from redis.exceptions import RedisError

from apps.core.api import places, problems
from apps.core.api.caller import Caller, client_address

log = structlog.stdlib.get_logger("kassa.api")

_REDIS_SECONDS_MAX: Final = 0.05
# For so long Redis is not asked again after a failure: no request waits for what just failed.
_REDIS_REST_SECONDS: Final = 1.0
_LOCAL_BUCKETS_MAX: Final = 10_000
_READS: Final = frozenset({"GET", "HEAD"})

# For so long a process may hand out what it took, and so many it takes at most.
_RESERVE_SECONDS: Final = 0.05
_RESERVE_MAX: Final = 32
_RESERVE_SHARE_OF_BURST: Final = 50
# For one key alone `count` asks as well.
_RESERVED_TOGETHER_MIN: Final = 2

# KEYS: the buckets. ARGV: for each its interval and its tolerance, in microseconds; last, how many
# requests to count. Counts as many of them as fit in every bucket, and says how many that were.
# Nothing is due later than the tolerance, unless the clock went back meanwhile: the bucket begins
# anew then, since it would refuse all until the clock is where it was.
_GCRA: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local granted, retry, due = tonumber(ARGV[#ARGV]), 0, {}
for i, key in ipairs(KEYS) do
  local interval, tolerance = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  due[i] = math.max(tonumber(redis.call('GET', key) or now), now)
  if due[i] > now + tolerance then due[i] = now end
  granted = math.min(granted, math.floor((now + tolerance - due[i]) / interval))
  retry = math.max(retry, due[i] + interval - tolerance - now)
end
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
if granted < 1 then return {0, retry, 0, due[1] + interval - now} end
for i, key in ipairs(KEYS) do
  due[i] = due[i] + granted * tonumber(ARGV[2 * i - 1])
  redis.call('SET', key, string.format('%.0f', due[i]),
             'PX', math.ceil((due[i] - now) / 1000) + 1)
end
local full = due[1] - now
return {granted, 0, math.floor((tolerance - full) / interval), full}
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


class _Measured(NamedTuple):
    """How many of the requests that were asked for fitted, and the state after them."""

    granted: int
    rate: Rate


class _Question(NamedTuple):
    """What is asked for a key: in which buckets, and how many requests to count."""

    reserve: "_Reserve"
    buckets: list[_Bucket]
    wanted: int


def admit(request: HttpRequest, caller: Caller) -> None:
    """
    Take what a request with a thread of its own needs and count it, or refuse it.

    `places.release` gives back what it took.

    :raises ApiProblem: `rate_limited` (429) with Retry-After
    """
    places.take_thread(request, caller)
    places.take(request, caller)
    count(request, caller)


def count(request: HttpRequest, caller: Caller) -> None:
    """
    Count a request against its key's rate, or refuse it.

    :raises ApiProblem: `rate_limited` (429) with Retry-After
    """
    kind = "read" if request.method in _READS else "write"
    rate = _reserves.of(caller.api_key_id, kind).take(lambda: _buckets(caller, kind))
    request.rate = rate  # type: ignore[attr-defined]  # read back by add_headers
    if not rate.is_admitted:
        raise problems.limited("Too many requests; wait as Retry-After says.", rate.retry_seconds)


def reserve(callers: Collection[Caller], *, kind: str) -> None:
    """
    Count requests of several keys in one trip, for `count` to hand out. Refuses nobody.

    Each has its place already: what is counted here and not handed out is lost to its key. What is
    not counted here, since Redis is away or another thread is asking, `count` does.
    """
    counts = Counter(caller.api_key_id for caller in callers)
    if len(counts) < _RESERVED_TOGETHER_MIN or _redis.is_resting:
        return
    by_key = {caller.api_key_id: caller for caller in callers}
    asking: list[_Question] = []
    try:
        for key, count in counts.items():
            found = _reserves.of(key, kind)
            if found.begin_asking():
                buckets = _buckets(by_key[key], kind)
                asking.append(_Question(found, buckets, found.wanted(buckets[0], at_least=count)))
        _ask_together(asking)
    except RedisError as fault:
        _redis.rest(fault)
    finally:
        for question in asking:
            question.reserve.end_asking()


def admit_stranger(request: HttpRequest, *, subject: UUID) -> None:
    """
    Count a request without a key against the address it comes from: about `subject`, and in all.

    So whoever floods one subject keeps nobody out who speaks about it from elsewhere.

    :raises ApiProblem: `rate_limited` (429) with Retry-After
    """
    sender = _sender(client_address(request))
    rate = _reserves.of(subject, sender).take(lambda: _buckets_of_sender(sender, subject))
    request.rate = rate  # type: ignore[attr-defined]  # read back by add_headers
    if not rate.is_admitted:
        raise problems.limited("Too many requests; wait as Retry-After says.", rate.retry_seconds)


def _sender(address: str) -> str:
    """Return who an address stands for; of IPv6 anybody has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "nobody"
    if isinstance(parsed, ipaddress.IPv6Address) and not parsed.ipv4_mapped:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _buckets_of_sender(sender: str, subject: UUID) -> list[_Bucket]:
    per_second, burst = settings.API_RATE_PER_SECOND, settings.API_RATE_BURST
    tag = f"kassa:rate:{{{sender}}}:hook"
    factor = settings.API_ORGANIZATION_FACTOR
    return [
        _Bucket(f"{tag}:{subject}", per_second, burst),
        _Bucket(tag, per_second * factor, burst * factor),
    ]


def _buckets(caller: Caller, kind: str) -> list[_Bucket]:
    per_second, burst = settings.API_RATE_PER_SECOND, settings.API_RATE_BURST
    # One hash tag, so that a cluster keeps both on one node.
    tag = f"kassa:rate:{{{caller.organization_id}}}:{kind}"
    factor = settings.API_ORGANIZATION_FACTOR
    return [
        _Bucket(f"{tag}:{caller.api_key_id}", per_second, burst),
        _Bucket(tag, per_second * factor, burst * factor),
    ]


# --- Rate ---------------------------------------------------------------------------------------


class _Redis:
    """Whether Redis is asked: after a failure it is left alone for a moment."""

    def __init__(self) -> None:
        self._rests_until = 0.0

    @property
    def is_resting(self) -> bool:
        return time.monotonic() < self._rests_until

    def rest(self, fault: RedisError) -> None:
        """Leave it alone for a moment."""
        self._rests_until = time.monotonic() + _REDIS_REST_SECONDS
        log.warning("limiter_local", fault=type(fault).__name__)


_redis: Final = _Redis()


class _Reserve:
    """What this process took of a key's rate and may still hand out."""

    def __init__(self) -> None:
        # Held while Redis is asked: whoever else needs the answer waits for the same one.
        self._lock = threading.Lock()
        self._held = 0
        self._ask_for = 1
        self._taken_at = self._refused_until = -math.inf
        self._rate = Rate(is_admitted=True, retry_seconds=0, remaining=0, full_seconds=0)
        self._interval = 0.0

    @property
    def is_over(self) -> bool:
        """Say whether nothing can be handed out any more."""
        return time.monotonic() - self._taken_at >= _RESERVE_SECONDS

    def take(self, buckets: Callable[[], list[_Bucket]]) -> Rate:
        """Count one request in the buckets, or refuse it."""
        with self._lock:
            if self._held and not self.is_over:
                return self._hand_out()
            if time.monotonic() < self._refused_until:
                return self._rate
            if not _redis.is_resting:
                try:
                    return self._ask(buckets())
                except RedisError as fault:
                    _redis.rest(fault)
        return _local.measure(buckets())

    def begin_asking(self) -> bool:
        """Say whether something is to be asked for now, which `end_asking` must follow."""
        if not self._lock.acquire(blocking=False):
            return False
        is_needed = not self._held or self.is_over
        if not is_needed:
            self._lock.release()
        return is_needed

    def end_asking(self) -> None:
        """Let others ask, or hand out."""
        self._lock.release()

    def wanted(self, first: _Bucket, *, at_least: int = 1) -> int:
        """Return how many requests to ask for, of which so many are there."""
        most = min(_RESERVE_MAX, first.burst // _RESERVE_SHARE_OF_BURST)
        wanted = self._ask_for - self._held if self.is_over else self._ask_for * 2
        return max(at_least, min(wanted, most))

    def put(self, wanted: int, measured: _Measured, first: _Bucket, *, asked_at: float) -> None:
        """Keep what was granted of what was wanted."""
        self._held, self._rate = measured
        self._interval = first.interval
        # From before the question, so that a slow answer makes it shorter.
        self._taken_at = asked_at
        # Nothing comes back before that, so whoever floods us is refused without asking again.
        waits = 0.0 if self._held else min(self._rate.retry_seconds, _RESERVE_SECONDS)
        self._refused_until = asked_at + waits
        self._ask_for = self._held if self._held == wanted else 1

    def _ask(self, buckets: list[_Bucket]) -> Rate:
        asked_at, wanted = time.monotonic(), self.wanted(buckets[0])
        self.put(wanted, _measure(buckets, wanted), buckets[0], asked_at=asked_at)
        return self._hand_out() if self._held else self._rate

    def _hand_out(self) -> Rate:
        self._held -= 1
        passed = time.monotonic() - self._taken_at
        return Rate(
            is_admitted=True,
            retry_seconds=0,
            remaining=self._rate.remaining + self._held,
            full_seconds=max(0.0, self._rate.full_seconds - self._held * self._interval - passed),
        )


class _Reserves:
    """The reserves of this process, by key and kind of request."""

    def __init__(self) -> None:
        self._found: dict[tuple[UUID, str], _Reserve] = {}

    def of(self, api_key_id: UUID, kind: str) -> _Reserve:
        found = self._found.get((api_key_id, kind))
        if found is None:
            if len(self._found) >= _LOCAL_BUCKETS_MAX:
                # From a copy, since others add theirs meanwhile.
                found_now = list(self._found.items())
                self._found = {key: one for key, one in found_now if not one.is_over}
            found = self._found.setdefault((api_key_id, kind), _Reserve())
        return found


_reserves: Final = _Reserves()


def _measure(buckets: list[_Bucket], wanted: int = 1) -> _Measured:
    """Count up to so many requests in Redis; return how many fitted, and the state after them."""
    _client, script = _script(settings.CACHE_URL)
    return _read(script(keys=_names(buckets), args=_arguments(buckets, wanted)))


def _ask_together(asking: Sequence[_Question]) -> None:
    """Measure in one trip for several keys. Where Redis has no script yet, none is answered."""
    if not asking:
        return
    client, script = _script(settings.CACHE_URL)
    pipeline = client.pipeline(transaction=False)
    for _reserve, buckets, wanted in asking:
        names = _names(buckets)
        pipeline.evalsha(script.sha, len(names), *names, *_arguments(buckets, wanted))
    asked_at = time.monotonic()
    answers = pipeline.execute(raise_on_error=False)
    for (found, buckets, wanted), answer in zip(asking, answers, strict=True):
        if not isinstance(answer, Exception):
            found.put(wanted, _read(answer), buckets[0], asked_at=asked_at)


def _names(buckets: list[_Bucket]) -> list[str]:
    return [bucket.name for bucket in buckets]


def _arguments(buckets: list[_Bucket], wanted: int) -> list[int]:
    parts = [part for bucket in buckets for part in (bucket.interval, bucket.tolerance)]
    return [*(int(part * 1_000_000) for part in parts), wanted]


def _read(answer: list[int]) -> _Measured:
    granted, retry, left, full = answer
    rate = Rate(granted > 0, retry / 1_000_000, max(0, left), full / 1_000_000)
    return _Measured(granted, rate)


@lru_cache(maxsize=1)
def _script(url: str) -> tuple[redis.Redis, Any]:
    """Return the client, and the script as a callable of its own."""
    client = redis.Redis.from_url(
        url, socket_timeout=_REDIS_SECONDS_MAX, socket_connect_timeout=_REDIS_SECONDS_MAX
    )
    return client, client.register_script(_GCRA)


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
