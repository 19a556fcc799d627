"""The headers of every answer of the API."""

import math

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from apps.core import context
from apps.core.versions import NEWEST


def add_headers(request: HttpRequest, response: HttpResponse) -> None:
    """Say which version answered and whether this is a replay; nothing on the way keeps a copy."""
    caller = getattr(request, "caller", None)
    response["Kassa-Version"] = caller.kassa_version if caller else NEWEST
    response["Cache-Control"] = "no-store"
    if context.current().replayed:
        response["Idempotent-Replayed"] = "true"
    rate = getattr(request, "rate", None)
    if rate is not None:
        window = max(1, round(settings.API_RATE_BURST / settings.API_RATE_PER_SECOND))
        response["RateLimit-Policy"] = f'"key";q={settings.API_RATE_BURST};w={window}'
        response["RateLimit"] = f'"key";r={rate.remaining};t={math.ceil(rate.full_seconds)}'
