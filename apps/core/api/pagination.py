"""
Lists: newest first, by an opaque cursor, without a total.

The cursor is a key, mostly an id, signed for this organization and this route, so it stays where it
was made when rows are added, and means nothing elsewhere. A list that is narrowed to a window of
time may be sorted by it, so that one index finds the window and its order (docs/adr/0170).
"""

import base64
import binascii
import hmac
import struct
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.db.models.fields.tuple_lookups import TupleGreaterThan, TupleLessThan
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import text
from apps.core.api.caller import get_caller
from apps.core.api.problems import ApiProblem

LIMIT_DEFAULT: Final = 25
LIMIT_MAX: Final = 100
PAGING_NAMES: Final = frozenset({"limit", "after", "before"})

_ID_BYTES: Final = 16
_TIMED: Final = struct.Struct(f">q{_ID_BYTES}s")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
_MAC_BYTES: Final = 8
_PURPOSE: Final = b"kassa.cursor"


def list_page(
    request: Request,
    queryset: QuerySet[Any] | Sequence[QuerySet[Any]],
    serializer: type[Any],
    *,
    filters: Collection[str] = (),
    context: dict[str, Any] | None = None,
    clock: str | None = None,
) -> Response:
    """
    Answer one page of a queryset that is already the caller's own.

    `after` goes on to older rows, `before` back to newer ones; the page itself is always newest
    first. `filters` are the further query names that the view has read; others are refused.
    Of several querysets, which share no row, each is read as far as the page needs it. `clock` is a
    column by which rows are sorted before their ids; a cursor is good for one order.

    :raises ApiProblem: `invalid_request` or `invalid_cursor` (400)
    """
    check_query(request, {*PAGING_NAMES, *filters})
    lanes = [queryset] if isinstance(queryset, QuerySet) else queryset
    rows, older, newer = _slice(request, lanes, clock)
    return answer_page(
        request,
        serializer(rows, many=True, context=context or {}).data,
        older=_place(rows[-1], clock) if older else None,
        newer=_place(rows[0], clock) if newer else None,
    )


@dataclass(frozen=True, slots=True)
class Paging:
    """How many rows are asked for, and the place of a cursor that they lie behind or before."""

    limit: int
    after: bytes | None
    before: bytes | None


def read_paging(request: Request) -> Paging:
    """
    Return what a list is asked for, for one that pages by a key of its own.

    :raises ApiProblem: `invalid_request` or `invalid_cursor` (400)
    """
    after, before = request.query_params.get("after"), request.query_params.get("before")
    if after is not None and before is not None:
        raise ApiProblem("invalid_request", "Give after or before, not both.")
    return Paging(
        limit=page_limit(request),
        after=None if after is None else read_place(request, after),
        before=None if before is None else read_place(request, before),
    )


def answer_page(
    request: Request,
    data: object,
    *,
    older: bytes | None,
    newer: bytes | None,
) -> Response:
    """Answer one page; `older` and `newer` are the places that its cursors are signed for."""
    return Response(
        {
            "data": data,
            "has_more": older is not None,
            "next": None if older is None else sign_place(request, older),
            "previous": None if newer is None else sign_place(request, newer),
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
        if not all(map(_is_visible, values[0])):
            raise ApiProblem("invalid_request", f"{name} has a character that nobody can see.")


def read_text(request: Request, name: str) -> str | None:
    """
    Return what rows are compared with, in normal form C, as clients' texts are stored.

    :raises ApiProblem: `invalid_request` (400), with the `parameter` that is wrong
    """
    given = request.query_params.get(name)
    if given is None:
        return None
    try:
        return text.in_normal_form(given)
    except text.TextRefused:
        refused = f"{name} has a character that is not allowed."
        raise ApiProblem("invalid_request", refused, parameter=name) from None


def _is_visible(character: str) -> bool:
    # Spaces of every width are let into a reference or metadata, so they can be asked for.
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _slice(
    request: Request, lanes: Sequence[QuerySet[Any]], clock: str | None
) -> tuple[list[Any], bool, bool]:
    """Return a page, and whether there is an older and a newer one."""
    asked = read_paging(request)
    limit = asked.limit
    if asked.before is not None:
        lanes = [_beyond(lane, asked.before, clock, newer=True) for lane in lanes]
        found = _first(lanes, clock, limit + 1, newer=True)
        return found[:limit][::-1], bool(found), len(found) > limit
    if asked.after is not None:
        lanes = [_beyond(lane, asked.after, clock, newer=False) for lane in lanes]
    found = _first(lanes, clock, limit + 1, newer=False)
    return found[:limit], len(found) > limit, asked.after is not None and bool(found)


def _first(
    lanes: Sequence[QuerySet[Any]], clock: str | None, count: int, *, newer: bool
) -> list[Any]:
    """Return the newest rows of all lanes, or the oldest of the newer ones, by one statement."""
    names = ["pk"] if clock is None else [clock, "pk"]
    order = names if newer else [f"-{name}" for name in names]
    first, *others = (lane.order_by(*order)[:count] for lane in lanes)
    if others:
        first = first.union(*others, all=True).order_by(*order)[:count]
    return list(first)


def _beyond(rows: QuerySet[Any], place: bytes, clock: str | None, *, newer: bool) -> QuerySet[Any]:
    """Narrow rows to those beyond a place."""
    if clock is None:
        return rows.filter(**{"pk__gt" if newer else "pk__lt": _id(place)})
    timed, of_clock = place[: _TIMED.size], place[_TIMED.size :]
    if len(timed) != _TIMED.size or of_clock != _marked(clock):
        raise invalid_cursor()
    ticks, id_ = _TIMED.unpack(timed)
    # One comparison of both: the index is entered at the place, however many rows have its instant.
    compare = TupleGreaterThan if newer else TupleLessThan
    return rows.filter(compare((clock, "pk"), (_EPOCH + ticks * _TICK, UUID(bytes=id_))))


def _place(row: Any, clock: str | None) -> bytes:  # noqa: ANN401  (a row of any model)
    id_: UUID = row.pk
    if clock is None:
        return id_.bytes
    return _TIMED.pack((getattr(row, clock) - _EPOCH) // _TICK, id_.bytes) + _marked(clock)


def _marked(clock: str) -> bytes:
    """Return what tells cursors of one clock from those of another; the usual one needs nothing."""
    return b"" if clock == "created_at" else clock.encode()


def _id(place: bytes) -> UUID:
    if len(place) != _ID_BYTES:
        raise invalid_cursor()
    return UUID(bytes=place)


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


def invalid_cursor() -> ApiProblem:
    """Return the problem of a cursor that means nothing here."""
    return ApiProblem("invalid_cursor", "This cursor was not made for this list.")


def sign_place(request: Request, place: bytes) -> str:
    """Return a cursor for the bytes that say where a page ended, of this route and caller."""
    signed = place + _mac(settings.SECRET_KEY, request, place)
    return base64.urlsafe_b64encode(signed).decode()


def read_place(request: Request, cursor: str) -> bytes:
    """
    Return what a cursor of this route and organisation stands for.

    :raises ApiProblem: `invalid_cursor` (400)
    """
    try:
        signed = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        signed = b""
    place, mac = signed[:-_MAC_BYTES], signed[-_MAC_BYTES:]
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    if not any(hmac.compare_digest(mac, _mac(str(key), request, place)) for key in keys):
        raise invalid_cursor()
    return place


def _mac(secret: str, request: Request, raw: bytes) -> bytes:
    place = get_caller(request).organization_id.bytes + request.path.encode()
    key = hmac.digest(secret.encode(), _PURPOSE, sha256)
    return hmac.digest(key, raw + place, sha256)[:_MAC_BYTES]
