"""
What a process took of a key's rate and hands out itself.

Asking Redis costs more than all else the API does with a request, so a process that is kept busy by
a key takes a few of its requests at once and hands them out itself. What it takes is counted in
Redis there and then, so all processes together never admit more than the limit; what it has not
handed out after a twentieth of a second is forfeited. So a request may be counted that much before
it is admitted, and a client may lose, in each process and each such moment, one less than what was
taken: at most a fiftieth of its burst and never more than 31. A process asks for one, for twice as
many when it ran out in time, and begins again when it gets less than it asked for: a client that is
not busy, or whose burst is below 100, is counted request by request.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final
from uuid import UUID

from redis.exceptions import RedisError, ResponseError

from apps.core.api import rates
from apps.core.api.rates import Limit, Measured, Question, Rate

# For so long a process may hand out what it took, and so many it takes at most.
_RESERVE_SECONDS: Final = 0.05
_RESERVE_MAX: Final = 32
_RESERVE_SHARE_OF_BURST: Final = 50
_RESERVES_MAX: Final = 10_000

type Limits = Callable[[], Sequence[Limit]]


class Reserve:
    """What this process may still hand out of a rate, which these buckets count."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
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

    def take(self, limits: Limits) -> Rate:
        """Count one request under the limits of the buckets, or refuse it."""
        with self._lock:
            if self._held and not self.is_over:
                return self._hand_out()
            if time.monotonic() < self._refused_until:
                return self._rate
            if not rates.shared.is_resting:
                try:
                    return self._ask(limits())
                except RedisError as fault:
                    rates.shared.rest(fault)
        return rates.local.measure(self.names, limits())

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

    def wanted(self, first: Limit, *, at_least: int = 1) -> int:
        """Return how many requests to ask for, of which so many are there."""
        most = min(_RESERVE_MAX, first.burst // _RESERVE_SHARE_OF_BURST)
        wanted = self._ask_for - self._held if self.is_over else self._ask_for * 2
        return max(at_least, min(wanted, most))

    def put(self, wanted: int, measured: Measured, first: Limit, *, asked_at: float) -> None:
        """Keep what was granted of what was wanted."""
        self._held, self._rate = measured
        self._interval = first.interval
        # From before the question, so that a slow answer makes it shorter.
        self._taken_at = asked_at
        # Nothing comes back before that, so whoever floods us is refused without asking again.
        waits = 0.0 if self._held else min(self._rate.retry_seconds, _RESERVE_SECONDS)
        self._refused_until = asked_at + waits
        self._ask_for = self._held if self._held == wanted else 1

    def _ask(self, limits: Sequence[Limit]) -> Rate:
        _ask_for({self: self.wanted(limits[0])}, limits)
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


def fill(waiting: Mapping[Reserve, int], limits: Limits) -> None:
    """
    Take for so many requests of each, in one trip. Refuses nobody.

    What is not taken here, since Redis is away or another thread is asking, `Reserve.take` asks
    for.
    """
    if rates.shared.is_resting:
        return
    asking: dict[Reserve, int] = {}
    found = limits()
    try:
        for reserve, count in waiting.items():
            if reserve.begin_asking():
                asking[reserve] = reserve.wanted(found[0], at_least=count)
        # What Redis does not do for all of them it may do for each.
        with suppress(ResponseError):
            _ask_for(asking, found)
    except RedisError as fault:
        rates.shared.rest(fault)
    finally:
        for reserve in asking:
            reserve.end_asking()


def _ask_for(wanted: Mapping[Reserve, int], limits: Sequence[Limit]) -> None:
    """Take so many of each, all of whom are held for it."""
    if not wanted:
        return
    asked_at = time.monotonic()
    asked = [Question(reserve.names, count) for reserve, count in wanted.items()]
    answers = rates.shared.measure(asked, limits)
    for (reserve, count), measured in zip(wanted.items(), answers, strict=True):
        reserve.put(count, measured, limits[0], asked_at=asked_at)


class Reserves:
    """The reserves of this process, by key and kind of request."""

    def __init__(self) -> None:
        # By the number in an id, whose hash is not computed in Python.
        self._found: dict[tuple[int, str], Reserve] = {}

    def of(self, key: UUID, kind: str, names: Callable[[], Sequence[str]]) -> Reserve:
        """Return the one of a key and kind, which are always counted in buckets of these names."""
        found = self._found.get((key.int, kind))
        if found is None:
            if len(self._found) >= _RESERVES_MAX:
                # From a copy, since others add theirs meanwhile.
                found_now = list(self._found.items())
                self._found = {one: kept for one, kept in found_now if not kept.is_over}
            found = self._found.setdefault((key.int, kind), Reserve(names()))
        return found
