"""
How much one key may ask: a rate shared by all processes, and so many requests at once (`places`).

The rate is counted for the key and its organization together (`rates`), and of a busy key for a few
requests at once (`reserves`). Who has no key, as providers that sign what they send, is counted by
the address it calls from.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest

from apps.core.api import places, problems, reserves
from apps.core.api.caller import Caller, client_address, sender_of
from apps.core.api.rates import Limit
from apps.core.api.reserves import Reserve, Reserves

_READS: Final = frozenset({"GET", "HEAD"})
# For one key alone `count` asks as well.
_RESERVED_TOGETHER_MIN: Final = 2

_reserves: Final = Reserves()


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
    _take(request, _reserve_of(caller, "read" if request.method in _READS else "write"))


def reserve(callers: Collection[Caller], *, kind: str) -> None:
    """
    Count requests of several keys in one trip, for `count` to hand out. Refuses nobody.

    Each has its place already: what is counted here and not handed out is lost to its key.
    """
    waiting = Counter(_reserve_of(caller, kind) for caller in callers)
    if len(waiting) >= _RESERVED_TOGETHER_MIN:
        reserves.fill(waiting, _limits)


def admit_stranger(request: HttpRequest, *, subject: UUID) -> None:
    """
    Count a request without a key against the address it comes from: about `subject`, and in all.

    So whoever floods one subject keeps nobody out who speaks about it from elsewhere.

    :raises ApiProblem: `rate_limited` (429) with Retry-After
    """
    sender = sender_of(client_address(request))
    tag = f"kassa:rate:{{{sender}}}:hook"
    _take(request, _reserves.of(subject, sender, lambda: _names(tag, subject)))


def _take(request: HttpRequest, found: Reserve) -> None:
    rate = found.take(_limits)
    request.rate = rate  # type: ignore[attr-defined]  # read back by add_headers
    if not rate.is_admitted:
        raise problems.limited("Too many requests; wait as Retry-After says.", rate.retry_seconds)


def _reserve_of(caller: Caller, kind: str) -> Reserve:
    def names() -> Sequence[str]:
        return _names(f"kassa:rate:{{{caller.organization_id}}}:{kind}", caller.api_key_id)

    return _reserves.of(caller.api_key_id, kind, names)


def _names(tag: str, key: UUID) -> Sequence[str]:
    """Return the buckets of a key and of whose it is, which the tag names."""
    return f"{tag}:{key}", tag


def _limits() -> Sequence[Limit]:
    """Return what a key may ask, and what whose it is may with all keys together."""
    per_second, burst = settings.API_RATE_PER_SECOND, settings.API_RATE_BURST
    factor = settings.API_ORGANIZATION_FACTOR
    return Limit(per_second, burst), Limit(per_second * factor, burst * factor)
