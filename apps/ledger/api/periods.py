"""Accounting periods over the API: to read them, and to ask two people to close one."""

from collections.abc import Sequence
from datetime import date
from typing import ClassVar, Final

from django.http import HttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.fields import CodeField, IdField, InstantField, TextField
from apps.core.api.pagination import (
    PAGING_NAMES,
    Paging,
    answer_page,
    check_query,
    read_paging,
)
from apps.core.api.shapes import StrictSerializer
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.ledger import queries, registry
from apps.ledger.api import examples
from apps.ledger.api.asked import read_month, read_query
from apps.ledger.queries import PeriodView
from apps.ledger.registry import PeriodRequest
from apps.ledger.states import PeriodState

READ: Final = "ledger:read"
WRITE: Final = "periods:write"
REASON_LENGTH_MAX: Final = 500


class AskPeriods(StrictSerializer):
    state = CodeField([state.value for state in PeriodState], required=False)


class Period(StrictSerializer):
    period = serializers.CharField(help_text="The month, as 2026-06.")
    starts_at = InstantField(help_text="The month's first instant in the organisation's zone.")
    ends_at = InstantField(help_text="The next month's first instant.")
    state = serializers.CharField(help_text="open, closing or closed")
    closings = serializers.IntegerField(help_text="How often it was closed.")
    closed_at = InstantField(allow_null=True)


class Blocker(StrictSerializer):
    code = serializers.CharField()
    detail = serializers.CharField(source="text")


class AskForPeriod(StrictSerializer):
    reason = TextField(REASON_LENGTH_MAX, help_text="Goes to the audit trail.")


class Approval(StrictSerializer):
    id = IdField("apr", source="approval_id")
    state = serializers.CharField()


class PeriodWithBlockers(Period):
    blockers = Blocker(many=True, help_text="What keeps it from being closed now.")
    approval = Approval(
        allow_null=True,
        help_text="What waits for a second person, to close it or to open it again; null if"
        " nobody asked.",
    )


class PeriodAskedFor(Period):
    approval = Approval(help_text="What waits for a second person.")


def _shown(view: PeriodView) -> dict[str, object]:
    row = view.row
    return {
        "period": view.name,
        "starts_at": view.starts_at,
        "ends_at": view.ends_at,
        "state": view.state,
        "closings": row.closings if row else 0,
        "closed_at": row.closed_at if row else None,
    }


class PeriodCollection(ApiView):
    """GET /v1/periods"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=Period,
            page=True,
            summary="List the months from the first entry on, newest first: those of five years,"
            " and all that somebody asked to close",
            query={"state": "Only months that are open, closing or closed."},
            example=examples.history.LIST_PERIODS,
        )
    }

    def get(self, request: Request) -> Response:
        state = read_query(request, AskPeriods, more=[*PAGING_NAMES]).get("state")
        asked = read_paging(request)
        found = queries.list_periods(
            organization_id=get_caller(request).organization_id, now=clock.now()
        )
        # In Python, as the months are: whether one is closed with a later one is in no column.
        return _page(request, [v for v in found if state is None or v.state == state], asked)


def _page(request: Request, months: Sequence[PeriodView], asked: Paging) -> Response:
    """Answer one page of all months, newest first; a cursor is the month that it lies beside."""
    newer: Sequence[PeriodView] = []
    older: Sequence[PeriodView] = []
    if asked.before is not None:
        month = _month_at(asked.before)
        ahead = [view for view in months if view.month > month]
        newer, rows = ahead[: -asked.limit], ahead[-asked.limit :]
        older = rows
    else:
        month = date.max if asked.after is None else _month_at(asked.after)
        behind = [view for view in months if view.month < month]
        rows, older = behind[: asked.limit], behind[asked.limit :]
        newer = rows if asked.after is not None else []
    return answer_page(
        request,
        Period([_shown(view) for view in rows], many=True).data,
        older=rows[-1].name.encode() if rows and older else None,
        newer=rows[0].name.encode() if rows and newer else None,
    )


def _month_at(place: bytes) -> date:
    return date.fromisoformat(f"{place.decode()}-01")


class PeriodResource(ApiView):
    """GET /v1/periods/{month}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=PeriodWithBlockers,
            summary="Read a month, and what keeps it from being closed",
            etag=True,
            example=examples.history.READ_PERIOD,
        )
    }

    def get(self, request: Request, month: str) -> Response | HttpResponse:
        check_query(request, ())
        organization_id = get_caller(request).organization_id
        day = read_month(month)
        now = clock.now()
        standing = queries.get_standing(organization_id=organization_id, month=day, now=now)
        view = standing.view
        asked = view.row and registry.find_waiting_period_request(
            organization_id=organization_id, period_id=view.row.id, now=now
        )
        shown = {**_shown(view), "blockers": standing.blockers, "approval": asked}
        return resource(request, PeriodWithBlockers(shown).data)


def _ask(request: Request, month: str, ask: PeriodRequest) -> Response:
    caller = get_caller(request)
    body = AskForPeriod(data=request.data)
    body.is_valid(raise_exception=True)
    day = read_month(month)

    asked = ask(
        organization_id=caller.organization_id,
        month=day,
        reason=body.validated_data["reason"],
        idempotency_key=require_idempotency_key(request),
        actor=caller.actor,
        now=clock.now(),
    )

    view = queries.view_period(organization_id=caller.organization_id, month=day)
    return Response(PeriodAskedFor({**_shown(view), "approval": asked}).data, status=202)


class PeriodClose(ApiView):
    """POST /v1/periods/{month}/close"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=AskForPeriod,
            response=PeriodAskedFor,
            status=202,
            summary="Ask for a month to be closed; it is once a second person agrees",
            example=examples.history.CLOSE_PERIOD,
        )
    }

    def post(self, request: Request, month: str) -> Response:
        return _ask(request, month, registry.request_close)


class PeriodReopen(ApiView):
    """POST /v1/periods/{month}/reopen"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=AskForPeriod,
            response=PeriodAskedFor,
            status=202,
            summary="Ask for the last closed month to be opened again; a second person decides",
            example=examples.history.REOPEN_PERIOD,
        )
    }

    def post(self, request: Request, month: str) -> Response:
        return _ask(request, month, registry.request_reopen)
