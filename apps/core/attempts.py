"""
How often something may be tried in an hour, counted before it is tried.

Redis counts for all processes together, in one script: a try that one of its counts refuses is in
none of them. A count begins with its first try and is over an hour later. While Redis is away each
process counts by itself, up to its share of each limit: never unlimited (ADR 0143).
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

log = structlog.stdlib.get_logger("kassa.attempts")

HOUR_SECONDS: Final = 3_600
_REDIS_SECONDS_MAX: Final = 0.3
_LOCAL_COUNTS_MAX: Final = 10_000

# KEYS: the counts. ARGV: how far each goes; last, for how many milliseconds one is kept. Counts a
# try and returns 0, or returns in how many milliseconds the last of those that are full is over.
_TAKE: Final = """
local wait = 0
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or 0) >= tonumber(ARGV[i]) then
    wait = math.max(wait, redis.call('PTTL', key), 1)
  end
end
if wait > 0 then return wait end
for _, key in ipairs(KEYS) do
  if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, ARGV[#ARGV]) end
end
return 0
"""


# KEYS: the counts. One that is over meanwhile stays over.
_GIVE_BACK: Final = """
for _, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or 0) > 0 then redis.call('DECR', key) end
end
"""


@dataclass(frozen=True, slots=True)
class Count:
    """What is counted under a name, and how far."""

    name: str
    most: int


def take(counts: Sequence[Count]) -> float:
    """Count a try in each of these; return 0, or the seconds to wait if one of them is full."""
    script = _script(settings.CACHE_URL, _TAKE)
    limits = [count.most for count in counts]
    try:
        wait = script(keys=_keys(counts), args=[*limits, HOUR_SECONDS * 1_000])
    except RedisError as fault:
        log.warning("attempts_local", fault=type(fault).__name__)
        return _local.take(counts)
    return float(wait) / 1_000


def give_back(counts: Sequence[Count]) -> None:
    """Take a try out of these counts again: it was not looked at after all."""
    try:
        _script(settings.CACHE_URL, _GIVE_BACK)(keys=_keys(counts))
    except RedisError as fault:
        log.warning("attempts_local", fault=type(fault).__name__)
        _local.give_back(counts)


def _keys(counts: Sequence[Count]) -> list[str]:
    # One hash tag, so that a cluster keeps them all on one node.
    return [f"kassa:{{attempts}}:{count.name}" for count in counts]


@lru_cache(maxsize=2)
def _script(url: str, text: str) -> Any:  # noqa: ANN401 - redis' own callable
    client = redis.Redis.from_url(
        url,
        socket_timeout=_REDIS_SECONDS_MAX,
        socket_connect_timeout=_REDIS_SECONDS_MAX,
        # Who was counted and not told of it would be counted twice.
        retry=Retry(NoBackoff(), 0),
    )
    return client.register_script(text)


class LocalCounts:
    """The same in this process, up to its share of each limit; of very many the oldest go."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By name, in the order in which they began: how many, and when the count is over.
        self._counts: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def take(self, counts: Sequence[Count]) -> float:
        """Count a try in each of these; return 0, or the seconds to wait if one of them is full."""
        processes = max(1, settings.WEB_PROCESSES)
        with self._lock:
            now = self._clock()
            self._forget(now)
            wait = 0.0
            for count in counts:
                taken, until = self._counts.get(count.name, (0, now))
                if taken >= max(1, count.most // processes):
                    wait = max(wait, until - now)
            if not wait:
                for count in counts:
                    taken, until = self._counts.get(count.name, (0, now + HOUR_SECONDS))
                    self._counts[count.name] = (taken + 1, until)
            return wait

    def give_back(self, counts: Sequence[Count]) -> None:
        """Take a try out of these counts again."""
        with self._lock:
            for count in counts:
                taken, until = self._counts.get(count.name, (0, 0.0))
                if taken:
                    self._counts[count.name] = (taken - 1, until)

    def _forget(self, now: float) -> None:
        """Drop what is over, and the oldest of the rest where there is no room for more."""
        while self._counts:
            oldest = next(iter(self._counts))
            is_over = self._counts[oldest][1] <= now
            if not (is_over or len(self._counts) >= _LOCAL_COUNTS_MAX):
                return
            del self._counts[oldest]


_local: Final = LocalCounts()
