"""
Lists: newest first, by an opaque cursor, without a total.

The cursor is an id, signed for this organization and this route, so it stays where it was made
when rows are added, and means nothing elsewhere.
"""

import base64
import binascii
import hmac
from collections.abc import Collection
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.caller import get_caller
from apps.core.api.problems import ApiProblem

LIMIT_DEFAULT: Final = 25
LIMIT_MAX: Final = 100
PAGING_NAMES: Final = frozenset({"limit", "after", "before"})

_ID_BYTES: Final = 16
_MAC_BYTES: Final = 8
_PURPOSE: Final = b"kassa.cursor"


def list_page(
    request: Request,
    queryset: QuerySet[Any],
    serializer: type[Any],
    *,
    filters: Collection[str] = (),
    context: dict[str, Any] | None = None,
) -> Response:
    """
    Answer one page of a queryset that is already the caller's own.

    `after` goes on to older rows, `before` back to newer ones; the page itself is always newest
    first. `filters` are the further query names that the view has read; others are refused.

    :raises ApiProblem: `invalid_request` or `invalid_cursor` (400)
    """
    check_query(request, {*PAGING_NAMES, *filters})
    rows, older, newer = _slice(request, queryset)
    data = serializer(rows, many=True, context=context or {}).data
    return Response(
        {
            "data": data,
            "has_more": older,
            "next": sign_place(request, rows[-1].pk) if older else None,
            "previous": sign_place(request, rows[0].pk) if newer else None,
        }
    )


def check_query(request: Request, allowed: Collection[str]) -> None:
    """
    Refuse a query name that the route does not know, or one given twice.

    :raises ApiProblem: `invalid_request` (400)
    """
    for name, values in request.query_params.lists():
        if name not in allowed:
            raise ApiProblem("invalid_request", "This route has no such query parameter.")
        if len(values) > 1:
            raise ApiProblem("invalid_request", f"{name} is given more than once.")
        if any(not character.isprintable() for character in values[0]):
            raise ApiProblem("invalid_request", f"{name} has a character that nobody can see.")


def _slice(request: Request, queryset: QuerySet[Any]) -> tuple[list[Any], bool, bool]:
    """Return a page, and whether there is an older and a newer one."""
    limit = page_limit(request)
    after, before = request.query_params.get("after"), request.query_params.get("before")
    if after is not None and before is not None:
        raise ApiProblem("invalid_request", "Give after or before, not both.")
    if before is not None:
        newer = queryset.filter(pk__gt=read_place(request, before)).order_by("pk")[: limit + 1]
        found = list(newer)
        return found[:limit][::-1], bool(found), len(found) > limit
    if after is not None:
        queryset = queryset.filter(pk__lt=read_place(request, after))
    found = list(queryset.order_by("-pk")[: limit + 1])
    return found[:limit], len(found) > limit, after is not None and bool(found)


def page_limit(request: Request) -> int:
    """
    Return how many rows the page has at most.

    :raises ApiProblem: `invalid_request` (400)
    """
    given = request.query_params.get("limit")
    if given is None:
        return LIMIT_DEFAULT
    # ASCII only: int() reads the digits of every script.
    if not (given.isascii() and given.isdigit() and len(given) <= len(str(LIMIT_MAX))):
        raise ApiProblem("invalid_request", f"limit is 1 to {LIMIT_MAX}.")
    if not 1 <= int(given) <= LIMIT_MAX:
        raise ApiProblem("invalid_request", f"limit is 1 to {LIMIT_MAX}.")
    return int(given)


def sign_place(request: Request, id_: UUID) -> str:
    """Return a cursor for a row's id, or for any other 16 bytes that say where a page ended."""
    signed = id_.bytes + _mac(settings.SECRET_KEY, request, id_.bytes)
    return base64.urlsafe_b64encode(signed).decode()


def read_place(request: Request, cursor: str) -> UUID:
    """
    Return what a cursor of this route and organisation stands for.

    :raises ApiProblem: `invalid_cursor` (400)
    """
    try:
        signed = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        signed = b""
    raw, mac = signed[:_ID_BYTES], signed[_ID_BYTES:]
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    if not any(hmac.compare_digest(mac, _mac(str(key), request, raw)) for key in keys):
        raise ApiProblem("invalid_cursor", "This cursor was not made for this list.")
    return UUID(bytes=raw)


def _mac(secret: str, request: Request, raw: bytes) -> bytes:
    place = get_caller(request).organization_id.bytes + request.path.encode()
    key = hmac.digest(secret.encode(), _PURPOSE, sha256)
    return hmac.digest(key, raw + place, sha256)[:_MAC_BYTES]
