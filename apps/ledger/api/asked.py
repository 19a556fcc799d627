"""What reads through time are asked with: instants, months, clocks, and where a page goes on."""

import struct
from collections.abc import Sequence
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from rest_framework.request import Request

from apps.core.api.pagination import (
    check_query,
    invalid_cursor,
    read_paging,
    sign_place,
)
from apps.core.api.problems import ApiProblem
from apps.core.api.shapes import StrictSerializer
from apps.ledger import queries
from apps.ledger.queries import TICK, LinesAsked, Position, Statement
from apps.ledger.rules.months import parse_month

PAGING_TOLD: Final = {
    "limit": "How many at most, 1 to 100.",
    "after": "A cursor: go on to what comes after it.",
    "before": "A cursor: go back to what comes right before it.",
}

CLOCKS: Final = ("effective", "recorded")
CLOCK_TOLD: Final = "effective (business time, the default) or recorded (what the books said then)."

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
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


def read_page(request: Request, *, code_prefix: str = "", currency: str = "") -> queries.PageAsked:
    """
    Return which page of accounts a request asks for, of a branch and a currency if it names them.

    :raises ApiProblem: `invalid_request` or `invalid_cursor` (400)
    """
    paging = read_paging(request)
    return queries.PageAsked(
        limit=paging.limit,
        after=_account(paging.after),
        before=_account(paging.before),
        code_prefix=code_prefix,
        currency=currency,
    )


def _account(place: bytes | None) -> UUID | None:
    if place is None:
        return None
    if len(place) != _ID_BYTES:
        raise invalid_cursor()
    return UUID(bytes=place)


def page_ends(
    request: Request, page: queries.BalancePage | queries.MovementPage
) -> dict[str, object]:
    """Return what a page of accounts says of the pages behind and before it."""

    def cursor(line: int, *, is_one: bool) -> str | None:
        return sign_place(request, page.lines[line].account_id.bytes) if is_one else None

    return {
        "has_more": page.has_more,
        "next": cursor(-1, is_one=page.has_more),
        "previous": cursor(0, is_one=page.has_previous),
    }


def read_lines(request: Request, *, marks: Sequence[bytes]) -> tuple[LinesAsked, bytes]:
    """
    Return which page of a statement a request asks for, and the mark of that statement.

    It is one of these, by the cursor; without one, the first of them.

    :raises ApiProblem: `invalid_request`; `invalid_cursor`, also if it was made for another one
    """
    paging = read_paging(request)
    after, before = _position(paging.after, marks), _position(paging.before, marks)
    _, mark = after or before or (None, marks[0])
    return LinesAsked(paging.limit, after and after[0], before and before[0]), mark


def _position(place: bytes | None, marks: Sequence[bytes]) -> tuple[Position, bytes] | None:
    if place is None:
        return None
    if len(place) != _PLACE.size:
        raise invalid_cursor()
    ticks, version, made_for = _PLACE.unpack(place)
    if made_for not in marks:
        raise invalid_cursor()
    return Position(_EPOCH + ticks * TICK, version), made_for


def statement_ends(request: Request, found: Statement, *, mark: bytes) -> dict[str, object]:
    """Return what a page of the statement with this mark says of those behind and before it."""

    def cursor(place: Position | None) -> str | None:
        if place is None:
            return None
        return sign_place(request, _PLACE.pack(_ticks(place.at), place.version, mark))

    return {
        "has_more": found.next is not None,
        "next": cursor(found.next),
        "previous": cursor(found.previous),
    }


def statement_mark(asked: dict[str, Any], *, since: datetime, until: datetime) -> bytes:
    """
    Return what tells an account's statements apart: order, kind and window, in eight bytes.

    A statement up to now, whose end nobody named, is the same one on each of its pages, however
    long somebody takes to read them. Where it begins is part of it: see `statement_starts`.
    """
    has_end = "until" in asked or "period" in asked
    parts = (asked["clock"], asked.get("kind", ""), _ticks(since), _ticks(until) if has_end else "")
    return sha256("\0".join(map(str, parts)).encode()).digest()[:8]


def statement_starts(
    request: Request, organization_id: UUID, asked: dict[str, Any], *, since: datetime
) -> list[datetime]:
    """
    Return where the statement may begin of which a page is asked for: there, and where it did.

    One whose beginning nobody named begins with the month. Its next page may be asked for when that
    month is over, and is of the same statement, which its cursor says.
    """
    is_first = not {"after", "before"} & request.query_params.keys()
    if is_first or {"period", "since", "until"} & asked.keys():
        return [since]
    month = queries.month_of(organization_id=organization_id, at=since - TICK)
    before, _ = queries.period_bounds(organization_id=organization_id, month=month)
    return [since, before]


def _ticks(at: datetime) -> int:
    return (at - _EPOCH) // TICK


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
    return queries.view_period(organization_id=organization_id, month=month).ends_at - TICK
