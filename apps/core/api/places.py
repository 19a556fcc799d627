"""
How many requests may be under way at once: of one key, and on threads for one organization.

They are counted in the process that serves them, so that a crash forgets them with it. All keys of
an organization together have two thirds of a process's threads (docs/adr/0131).
"""

import threading
from collections import Counter
from typing import Final

from django.conf import settings
from django.http import HttpRequest

from apps.core.api import problems
from apps.core.api.caller import Caller
from apps.core.api.problems import ApiProblem

# By the number in an id, whose hash is not computed in Python: of a key, and of an organization
# those that have a thread of their own.
_in_flight: Final[Counter[int]] = Counter()
_on_threads: Final[Counter[int]] = Counter()
_lock: Final = threading.Lock()


def at_once_max() -> int:
    """Return how many requests of one key may be under way at once in this process."""
    allowed: int = settings.API_IN_FLIGHT_MAX // max(1, settings.WEB_PROCESSES)
    return max(1, allowed)


def too_many(whose: str = "key") -> ApiProblem:
    """Return the refusal of a request for which no place is left."""
    return problems.limited(f"Too many requests of this {whose} are under way.", 1)


def take(request: HttpRequest, caller: Caller) -> None:
    """
    Take one of the places that a key has at once in this process; `release` gives it back.

    :raises ApiProblem: `rate_limited` (429) with Retry-After, if it has none left
    """
    _take(request, _in_flight, caller.api_key_id.int, most=at_once_max(), whose="key")


def take_thread(request: HttpRequest, caller: Caller) -> None:
    """
    Take a thread for a request: some are left to other organizations, whatever one asks.

    :raises ApiProblem: `rate_limited` (429) with Retry-After, if its organization has none left
    """
    most = max(at_once_max(), settings.WEB_THREADS * 2 // 3)
    owner = caller.organization_id.int
    _take(request, _on_threads, owner, most=most, whose="organization")


def _take(request: HttpRequest, taken: Counter[int], owner: int, *, most: int, whose: str) -> None:
    with _lock:
        if taken[owner] >= most:
            raise too_many(whose)
        taken[owner] += 1
    vars(request).setdefault("places", []).append((taken, owner))  # given back by release


def release(request: HttpRequest) -> None:
    """Give back the places of a request, if it took any."""
    for taken, owner in vars(request).pop("places", ()):
        with _lock:
            taken[owner] -= 1
            if taken[owner] <= 0:
                del taken[owner]
