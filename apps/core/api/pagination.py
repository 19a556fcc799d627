"""
Lists: newest first, by an opaque cursor, without a total.

The cursor is a key, mostly an id, signed for this organization and this route, so it stays where it
was made when rows are added, and means nothing elsewhere. A list that is narrowed to a window of
time may be sorted by it, so that one index finds the window and its order (docs/adr/0170).

What no index leads to is sifted: looked for row by row, so many at a time, until a tenth of a
second has passed. Then the page is over, however few rows it has, and its cursor goes on from where
it stopped (docs/adr/0175).
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
from django.db.models import Q, QuerySet
from django.db.models.fields.tuple_lookups import (
    TupleGreaterThan,
    TupleGreaterThanOrEqual,
    TupleLessThan,
    TupleLessThanOrEqual,
)
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import text
from apps.core.api.caller import get_caller
from apps.core.api.filters import Timed
from apps.core.api.problems import ApiProblem
from apps.core.sifting import Key, Sifted, sift
from apps.core.windows import during

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
    timed: Timed | None = None,
    sieve: Q | None = None,
) -> Response:
    """
    Answer one page of a queryset that is already the caller's own.

    `after` goes on to older rows, `before` back to newer ones; the page itself is always newest
    first. `filters` are the further query names that the view has read; others are refused.
    Of several querysets, which share no row, each is read as far as the page needs it. `clock` is a
    column by which rows are sorted before their ids; a cursor is good for one order. `timed` is a
    window, and the clock if it leads. `sieve` is what no index of the rows of one queryset has: a
    page of them may have fewer rows than `limit`, or none, and still a `next`.

    :raises ApiProblem: `invalid_request` or `invalid_cursor` (400)
    """
    check_query(request, {*PAGING_NAMES, *filters})
    lanes = [queryset] if isinstance(queryset, QuerySet) else queryset
    sieve = sieve or Q()
    if timed is not None and not timed.window.is_open:
        within = during(timed.column, timed.window)
        if timed.leads:
            lanes, clock = [lane.filter(within) for lane in lanes], timed.column
        else:
            sieve &= within
    asked = read_paging(request)
    back = asked.before is not None
    order = _Order(clock, newer=back)
    found = _find(lanes, sieve, order, asked.before if back else asked.after, asked.limit + 1)
    rows, beyond = found.rows[: asked.limit], found.stopped
    if len(found.rows) > asked.limit:
        beyond = order.key_of(rows[-1])
    # Whoever came by a cursor can go back from the first row.
    came = asked.after is not None or back
    behind = order.key_of(rows[0]) if rows and came else None
    if back:
        rows.reverse()
    older, newer = (behind, beyond) if back else (beyond, behind)
    data = serializer(rows, many=True, context=context or {}).data
    return answer_page(
        request,
        data,
        older=None if older is None else order.place_of(older),
        newer=None if newer is None else order.place_of(newer),
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
    if not given:
        # As a client's unset variable is.
        raise ApiProblem("invalid_request", f"{name} is empty.", parameter=name)
    try:
        return text.in_normal_form(given)
    except text.TextRefused:
        refused = f"{name} has a character that is not allowed."
        raise ApiProblem("invalid_request", refused, parameter=name) from None


def _is_visible(character: str) -> bool:
    # Spaces of every width are let into a reference or metadata, so they can be asked for.
    return character.isprintable() or unicodedata.category(character) == "Zs"


@dataclass(frozen=True, slots=True)
class _Order:
    """The order of a list in one direction: by a clock if there is one, and the ids."""

    clock: str | None
    newer: bool

    @property
    def names(self) -> list[str]:
        names = ["pk"] if self.clock is None else [self.clock, "pk"]
        return [name if self.newer else f"-{name}" for name in names]

    def beyond(self, key: Key) -> Q:
        """Return the condition of rows behind a key."""
        if self.clock is None:
            return Q(**{"pk__gt" if self.newer else "pk__lt": key[0]})
        # One comparison of both: the index is entered at the place, however many rows have its
        # instant.
        compare = TupleGreaterThan if self.newer else TupleLessThan
        return Q(compare((self.clock, "pk"), tuple(key)))

    def up_to(self, key: Key) -> Q:
        """Return the condition of rows that are not behind a key."""
        if self.clock is None:
            return Q(**{"pk__lte" if self.newer else "pk__gte": key[0]})
        compare = TupleLessThanOrEqual if self.newer else TupleGreaterThanOrEqual
        return Q(compare((self.clock, "pk"), tuple(key)))

    def key_of(self, row: Any) -> Key:  # noqa: ANN401  (a row of any model)
        return (row.pk,) if self.clock is None else (getattr(row, self.clock), row.pk)

    def place_of(self, key: Key) -> bytes:
        """Return the bytes that a cursor has of a key."""
        if self.clock is None:
            return bytes(key[0].bytes)
        ticks = (key[0] - _EPOCH) // _TICK
        return _TIMED.pack(ticks, key[1].bytes) + _marked(self.clock)

    def key_at(self, place: bytes) -> Key:
        """
        Return the key that a cursor has the bytes of.

        :raises ApiProblem: `invalid_cursor` (400), also if it is of another order
        """
        if self.clock is None:
            if len(place) != _ID_BYTES:
                raise invalid_cursor()
            return (UUID(bytes=place),)
        timed, of_clock = place[: _TIMED.size], place[_TIMED.size :]
        if len(timed) != _TIMED.size or of_clock != _marked(self.clock):
            raise invalid_cursor()
        ticks, id_ = _TIMED.unpack(timed)
        return _EPOCH + ticks * _TICK, UUID(bytes=id_)


def _find(
    lanes: Sequence[QuerySet[Any]], sieve: Q, order: _Order, place: bytes | None, count: int
) -> Sifted:
    """Return the first rows behind a place: of all lanes, or of one what the sieve lets through."""
    if place is not None:
        beyond = order.beyond(order.key_at(place))
        lanes = [lane.filter(beyond) for lane in lanes]
    first, *others = lanes
    if sieve:
        return sift(
            first, sieve, order=order.names, beyond=order.beyond, up_to=order.up_to, count=count
        )
    first = first.order_by(*order.names)[:count]
    if others:
        # By one statement.
        rest = (lane.order_by(*order.names)[:count] for lane in others)
        first = first.union(*rest, all=True).order_by(*order.names)[:count]
    return Sifted(list(first))


def _marked(clock: str) -> bytes:
    """Return what tells cursors of one clock from those of another; the usual one needs nothing."""
    return b"" if clock == "created_at" else clock.encode()


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
