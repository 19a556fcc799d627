"""The headers of every answer of the API."""

import math
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from apps.core import context
from apps.core.versions import NEWEST


def add_headers(request: HttpRequest, response: HttpResponse) -> None:
    """Give an answer what `list_headers` says of it."""
    for name, value in list_headers(request):
        response[name] = value


def list_headers(request: HttpRequest) -> list[tuple[str, str]]:
    """Say which version answered and whether this is a replay; nothing on the way keeps a copy."""
    caller = getattr(request, "caller", None)
    headers = [
        ("Kassa-Version", caller.kassa_version if caller else NEWEST),
        ("Cache-Control", "no-store"),
    ]
    if context.current().replayed:
        headers.append(("Idempotent-Replayed", "true"))
    rate = getattr(request, "rate", None)
    if rate is not None:
        policy = _policy(settings.API_RATE_BURST, settings.API_RATE_PER_SECOND)
        left = f'"key";r={rate.remaining};t={math.ceil(rate.full_seconds)}'
        headers += [("RateLimit-Policy", policy), ("RateLimit", left)]
    return headers


@lru_cache(maxsize=1)
def _policy(burst: int, per_second: float) -> str:
    return f'"key";q={burst};w={max(1, round(burst / per_second))}'
