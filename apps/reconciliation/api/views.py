"""Views of reconciliation: translate in, one call, translate out."""

from typing import ClassVar, Final

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.banking import queries as banking
from apps.core.api.filters import (
    CREATED,
    CREATED_TOLD,
    SIFTED,
    Timed,
    equal,
    read_choice,
    read_window,
)
from apps.core.api.pagination import check_query, list_page
from apps.core.api.views import ApiView, Shape, get_caller, resource
from apps.core.ids import decode_id
from apps.reconciliation import queries
from apps.reconciliation.api import examples, serializers
from apps.reconciliation.states import BreakKind, BreakState, MatchState

_FIRST_SEEN: Final = ("first_seen_from", "first_seen_before")


class MatchCollection(ApiView):
    """GET /v1/matches"""

    scopes: ClassVar = {"GET": "matches:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Match,
            page=True,
            summary="List which bank line is what",
            query={
                "bank_line": "Only those of this line; sorted by the ids whatever the window.",
                "state": "Only matches in this state." + SIFTED,
                **CREATED_TOLD,
            },
            example=examples.LIST_MATCHES,
        )
    }

    def get(self, request: Request) -> Response:
        organization_id = get_caller(request).organization_id
        line_id, line = None, request.query_params.get("bank_line")
        if line is not None:
            line_id = banking.get_line_with_status(
                organization_id=organization_id, line_id=decode_id("bl", line)
            ).id
        matches = queries.list_matches(organization_id=organization_id, bank_line_id=line_id)
        return list_page(
            request,
            matches,
            serializers.Match,
            filters=("bank_line", "state", *CREATED),
            timed=Timed("created_at", read_window(request, *CREATED), leads=line_id is None),
            sieve=equal(state=read_choice(request, "state", MatchState.values)),
        )


class MatchResource(ApiView):
    """GET /v1/matches/{id}"""

    scopes: ClassVar = {"GET": "matches:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Match,
            summary="Read a match",
            etag=True,
            example=examples.READ_MATCH,
        )
    }

    def get(self, request: Request, match_id: str) -> Response | HttpResponse:
        check_query(request, ())
        match = queries.get_match(
            organization_id=get_caller(request).organization_id,
            match_id=decode_id("mat", match_id),
        )
        return resource(request, serializers.Match(match).data)


class BreakCollection(ApiView):
    """GET /v1/breaks"""

    scopes: ClassVar = {"GET": "breaks:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Break,
            page=True,
            summary="List what bank and books do not agree about",
            query={
                "state": "Only those in this state." + SIFTED,
                "kind": "Only those of this kind." + SIFTED,
                "first_seen_from": "Only those first seen at this instant or later; sorted by it.",
                "first_seen_before": "Only those first seen before this instant; sorted by it.",
            },
            example=examples.LIST_BREAKS,
        )
    }

    def get(self, request: Request) -> Response:
        breaks = queries.list_breaks(organization_id=get_caller(request).organization_id)
        return list_page(
            request,
            breaks,
            serializers.Break,
            filters=("state", "kind", *_FIRST_SEEN),
            timed=Timed("first_seen_at", read_window(request, *_FIRST_SEEN)),
            sieve=equal(
                state=read_choice(request, "state", BreakState.values),
                kind=read_choice(request, "kind", BreakKind.values),
            ),
        )


class BreakResource(ApiView):
    """GET /v1/breaks/{id}"""

    scopes: ClassVar = {"GET": "breaks:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Break,
            summary="Read a break",
            etag=True,
            example=examples.READ_BREAK,
        )
    }

    def get(self, request: Request, break_id: str) -> Response | HttpResponse:
        check_query(request, ())
        found = queries.get_break(
            organization_id=get_caller(request).organization_id,
            break_id=decode_id("brk", break_id),
        )
        return resource(request, serializers.Break(found).data)
