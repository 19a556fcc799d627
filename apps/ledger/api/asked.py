"""What reads through time are asked with: instants, months, clocks, and where a page goes on."""

import struct
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from rest_framework.request import Request

from apps.core.api.pagination import (
    check_query,
    invalid_cursor,
    read_place,
    sign_place,
)
from apps.core.api.problems import ApiProblem
from apps.core.api.shapes import StrictSerializer
from apps.ledger import queries
from apps.ledger.queries import Position
from apps.ledger.rules.months import parse_month

PAGING: Final = ("limit", "after")
PAGING_TOLD: Final = {
    "limit": "How many at most, 1 to 100.",
    "after": "A cursor: go on from where a page ended.",
}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
_ID_BYTES: Final = 16
_PLACE: Final = struct.Struct(">qq8s")


def read_query(
    request: Request, shape: type[StrictSerializer], *, more: Sequence[str] = ()
) -> dict[str, Any]:
    """
    Return the query's values as the shape reads them; other names than its own are refused.

    :raises ApiProblem: `invalid_request` (400)
    """
    names = list(shape().fields)
    check_query(request, [*names, *more])
    given = {name: request.query_params[name] for name in names if name in request.query_params}
    asked = shape(data=given)
    asked.is_valid(raise_exception=True)
    values: dict[str, Any] = asked.validated_data
    return values


def find_account(organization_id: UUID, account_id: UUID | None) -> UUID | None:
    """
    Return the account that a list is narrowed to, if it is: one of the caller's own.

    :raises LedgerAccountNotFound: if the organisation has no such account (404, as on its own page)
    """
    if account_id is not None:
        queries.require_account(organization_id=organization_id, account_id=account_id)
    return account_id


def read_month(text: str) -> date:
    """
    Return the first day of a month written as 2026-06.

    :raises ApiProblem: `invalid_request` (400)
    """
    month = parse_month(text)
    if month is None:
        raise ApiProblem("invalid_request", "A period is a month such as 2026-06.")
    return month


def account_after(request: Request) -> UUID | None:
    """
    Return the account that a page of accounts goes on behind, if a cursor is given.

    :raises ApiProblem: `invalid_cursor` (400)
    """
    after = request.query_params.get("after")
    if after is None:
        return None
    place = read_place(request, after)
    if len(place) != _ID_BYTES:
        raise invalid_cursor()
    return UUID(bytes=place)


def sign_next(request: Request, page: queries.BalancePage | queries.MovementPage) -> str | None:
    """Return the cursor of the page behind this one of accounts, if there is one."""
    return sign_place(request, page.lines[-1].account_id.bytes) if page.has_more else None


def read_position(request: Request, *, mark: bytes) -> Position | None:
    """
    Return where a page of the statement with this mark goes on.

    :raises ApiProblem: `invalid_cursor` (400), also if it was made for another statement
    """
    after = request.query_params.get("after")
    if after is None:
        return None
    place = read_place(request, after)
    if len(place) != _PLACE.size:
        raise invalid_cursor()
    ticks, version, made_for = _PLACE.unpack(place)
    if made_for != mark:
        raise invalid_cursor()
    return Position(_EPOCH + ticks * _TICK, version)


def sign_position(request: Request, position: Position | None, *, mark: bytes) -> str | None:
    """Return the cursor of a place in the statement with this mark."""
    if position is None:
        return None
    return sign_place(request, _PLACE.pack(_ticks(position.at), position.version, mark))


def statement_mark(asked: dict[str, Any], *, since: datetime, until: datetime) -> bytes:
    """
    Return what tells an account's statements apart: order, kind and window, in eight bytes.

    A statement up to now, whose end nobody named, is the same one on each of its pages, however
    long somebody takes to read them.
    """
    has_end = "until" in asked or "period" in asked
    parts = (asked["clock"], asked.get("kind", ""), _ticks(since), _ticks(until) if has_end else "")
    return sha256("\0".join(map(str, parts)).encode()).digest()[:8]


def _ticks(at: datetime) -> int:
    return (at - _EPOCH) // _TICK


def span_of(
    organization_id: UUID, asked: dict[str, Any], *, now: datetime
) -> tuple[datetime, datetime]:
    """
    Return `since` and `until`: of a period, or as given; by default the current month until now.

    :raises ApiProblem: `invalid_request` (400)
    """
    if "period" in asked:
        if "since" in asked or "until" in asked:
            raise ApiProblem("invalid_request", "Give a period, or since and until, not both.")
        month = read_month(asked["period"])
        view = queries.view_period(organization_id=organization_id, month=month)
        return view.starts_at, view.ends_at
    until: datetime = asked.get("until", now)
    since = asked.get("since")
    if since is None:
        month = queries.month_of(organization_id=organization_id, at=until)
        since, _ = queries.period_bounds(organization_id=organization_id, month=month)
    if since > until:
        raise ApiProblem("invalid_request", "since lies after until.")
    return since, until


def instant_of(organization_id: UUID, asked: dict[str, Any], *, now: datetime) -> datetime:
    """
    Return `at`, or the last instant of a period; by default now.

    :raises ApiProblem: `invalid_request` (400)
    """
    if "period" not in asked:
        at: datetime = asked.get("at", now)
        return at
    if "at" in asked:
        raise ApiProblem("invalid_request", "Give a period or at, not both.")
    month = read_month(asked["period"])
    return queries.view_period(organization_id=organization_id, month=month).ends_at - _TICK
