"""
How many requests fit in buckets that all processes share, and when the next one will.

It is GCRA, in one script on Redis's own clock, which counts for one key or for all that came
together: to pack, send and read a call costs more than what it does. While Redis is away each
process keeps buckets of its own with its share of the limit: never unlimited.
"""

import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from itertools import batched
from typing import Any, Final, NamedTuple

import redis
import structlog
from django.conf import settings
from redis.exceptions import RedisError

log = structlog.stdlib.get_logger("kassa.api")

_REDIS_SECONDS_MAX: Final = 0.05
# For so long Redis is not asked again after a failure: no request waits for what just failed.
_REDIS_REST_SECONDS: Final = 1.0
_LOCAL_BUCKETS_MAX: Final = 10_000

# KEYS: the buckets, of each question as many as there are limits. ARGV: a text of numbers, namely
# how many limits there are; of each its interval and its tolerance, in microseconds; for each
# question how many requests to count. Counts as many of them as fit in all buckets of the question.
# Answers with a text too, of four numbers a question: as so many arguments, and as lists in a list,
# they would cost the client more than all else it does here.
# Nothing is due later than the tolerance, unless the clock went back meanwhile: the bucket begins
# anew then, since it would refuse all until the clock is where it was.
_GCRA: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local given = {}
for number in string.gmatch(ARGV[1], '%d+') do table.insert(given, tonumber(number)) end
local limits, intervals, tolerances = given[1], {}, {}
for i = 1, limits do intervals[i], tolerances[i] = given[2 * i], given[2 * i + 1] end

local function count(before, wanted)
  local granted, retry, due = wanted, 0, {}
  for i = 1, limits do
    due[i] = math.max(tonumber(redis.call('GET', KEYS[before + i]) or now), now)
    if due[i] > now + tolerances[i] then due[i] = now end
    granted = math.min(granted, math.floor((now + tolerances[i] - due[i]) / intervals[i]))
    retry = math.max(retry, due[i] + intervals[i] - tolerances[i] - now)
  end
  if granted < 1 then return 0, retry, 0, due[1] + intervals[1] - now end
  for i = 1, limits do
    due[i] = due[i] + granted * intervals[i]
    redis.call('SET', KEYS[before + i], string.format('%.0f', due[i]),
               'PX', math.ceil((due[i] - now) / 1000) + 1)
  end
  local full = due[1] - now
  return granted, 0, math.floor((tolerances[1] - full) / intervals[1]), full
end

local answers = {}
for question = 1, #KEYS / limits do
  local wanted = given[1 + 2 * limits + question]
  local granted, retry, left, full = count((question - 1) * limits, wanted)
  answers[question] = string.format('%d %d %d %d', granted, retry, left, full)
end
return table.concat(answers, ' ')
"""
_NUMBERS_OF_ANSWER: Final = 4


class Limit(NamedTuple):
    """What a bucket admits: so many a second in the long run, and so many at once."""

    per_second: float
    burst: int

    @property
    def interval(self) -> float:
        return 1 / self.per_second

    @property
    def tolerance(self) -> float:
        return self.burst / self.per_second


class Rate(NamedTuple):
    """What is left to a key: requests at once, and seconds until the bucket is full again."""

    is_admitted: bool
    retry_seconds: float
    remaining: int
    full_seconds: float


class Question(NamedTuple):
    """How many requests to count in buckets of these names, of which each has its limit."""

    names: Sequence[str]
    wanted: int


class Measured(NamedTuple):
    """How many of the requests that were asked for fitted, and the state after them."""

    granted: int
    rate: Rate


class _Shared:
    """The buckets in Redis, which is left alone for a moment after a failure."""

    def __init__(self) -> None:
        self._rests_until = 0.0

    @property
    def is_resting(self) -> bool:
        return time.monotonic() < self._rests_until

    def rest(self, fault: RedisError) -> None:
        """Leave Redis alone for a moment."""
        self._rests_until = time.monotonic() + _REDIS_REST_SECONDS
        log.warning("limiter_local", fault=type(fault).__name__)

    def measure(self, asked: Sequence[Question], limits: Sequence[Limit]) -> list[Measured]:
        """Answer all questions in one trip, one after another."""
        spans = [span for limit in limits for span in (limit.interval, limit.tolerance)]
        given = [
            len(limits),
            *(int(span * 1_000_000) for span in spans),
            *(wanted for _names, wanted in asked),
        ]
        answer = _script(settings.CACHE_URL)(
            keys=[name for names, _wanted in asked for name in names],
            args=[" ".join(map(str, given))],
        )
        return [
            Measured(granted, Rate(granted > 0, retry / 1_000_000, max(0, left), full / 1_000_000))
            for granted, retry, left, full in batched(map(int, answer.split()), _NUMBERS_OF_ANSWER)
        ]


@lru_cache(maxsize=1)
def _script(url: str) -> Any:  # noqa: ANN401  redis leaves its scripts' answers untyped
    """Return the script as a callable on a client of its own."""
    client = redis.Redis.from_url(
        url, socket_timeout=_REDIS_SECONDS_MAX, socket_connect_timeout=_REDIS_SECONDS_MAX
    )
    return client.register_script(_GCRA)


class _Local:
    """The same arithmetic in this process, with its share of each limit."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._lock = threading.Lock()

    def measure(self, names: Sequence[str], limits: Sequence[Limit]) -> Rate:
        """Count one request, if it fits."""
        share = max(1, settings.WEB_PROCESSES)
        with self._lock:
            now = time.monotonic()
            if len(self._due) > _LOCAL_BUCKETS_MAX:
                self._due = {name: due for name, due in self._due.items() if due > now}
            due = {
                name: max(self._due.get(name, now), now) + limit.interval * share
                for name, limit in zip(names, limits, strict=True)
            }
            # A bucket's burst is shared out too: an interval longer by the share does that.
            retry = max(
                due[name] - limit.tolerance - now for name, limit in zip(names, limits, strict=True)
            )
            if retry <= 0:
                self._due |= due
        first, waits = limits[0], due[names[0]] - now
        left = int((first.tolerance - waits) / (first.interval * share))
        return Rate(retry <= 0, max(0.0, retry), max(0, left), waits)


shared: Final = _Shared()
local: Final = _Local()
