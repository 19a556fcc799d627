"""Views of the event feed."""

from typing import Any, ClassVar

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.caller import Caller
from apps.core.api.pagination import LIMIT_DEFAULT, LIMIT_MAX, check_query
from apps.core.api.problems import ApiProblem
from apps.core.api.views import ApiView, Shape, get_caller, resource
from apps.core.ids import decode_id
from apps.core.models import OutboxEvent
from apps.webhooks import operations, queries
from apps.webhooks.api import _feed, examples, serializers
from apps.webhooks.errors import EventNotFound
from apps.webhooks.rules import rendering, subscriptions

READ = "events:read"


class EventCollection(ApiView):
    """GET /v1/events"""

    scopes: ClassVar = {"GET": READ}
    names: ClassVar = {
        "limit": "How many at most, 1 to 100. A page may have fewer, or none, while `has_more` is"
        " true: events of few types are looked for in so many at a time. Go on from `next`.",
        "order": "desc (newest first, the default), or asc to follow.",
        "after": "A cursor: go on from there, in this order. 422 `cursor_expired` where what"
        " follows is no longer kept.",
        "type": "Only events of this type.",
    }
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.EventPage,
            summary="Follow the events",
            query=names,
            example=examples.FOLLOW_EVENTS,
        )
    }

    def get(self, request: Request) -> Response:
        check_query(request, self.names)
        asked = request.query_params
        order, after = asked.get("order", "desc"), asked.get("after")
        if order not in {"asc", "desc"}:
            raise ApiProblem("invalid_request", "order is asc or desc.")
        caller = get_caller(request)
        page = queries.read_feed(
            organization_id=caller.organization_id,
            types=_readable_types(caller, asked.get("type")),
            after=_feed.read_cursor(after) if after is not None else None,
            ascending=order == "asc",
            limit=_limit(asked.get("limit")),
        )
        return Response(
            {
                "data": [_shown(caller, event) for event in page.events],
                "has_more": page.has_more,
                # A follower that has seen everything asks again from the same place.
                "next": _feed.write_cursor(page.end) if page.end else None,
            }
        )


class EventResource(ApiView):
    """GET /v1/events/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Event,
            summary="Read an event",
            etag=True,
            example=examples.READ_EVENT,
        )
    }

    def get(self, request: Request, event_id: str) -> Response | HttpResponse:
        check_query(request, ())
        caller = get_caller(request)
        event = queries.get_event(
            organization_id=caller.organization_id, event_id=decode_id("evt", event_id)
        )
        if event.type not in _readable_types(caller, event.type):
            raise EventNotFound("No such event.")
        return resource(request, _shown(caller, event))


def _shown(caller: Caller, event: OutboxEvent) -> dict[str, Any]:
    """Return an event in the version that the caller's key is pinned to."""
    return rendering.in_version(operations.envelope(event), api_version=caller.kassa_version)


def _readable_types(caller: Caller, only: str | None) -> list[str]:
    """Return the types of events that this key may read, or the one that was asked for."""
    hidden = subscriptions.hidden_types(queries.get_read_scopes(), scopes=caller.scopes)
    return [
        type_
        for type_ in queries.list_public_event_types()
        if only in {None, type_} and type_ not in hidden
    ]


def _limit(given: str | None) -> int:
    if given is None:
        return LIMIT_DEFAULT
    if not (given.isascii() and given.isdigit() and len(given) <= len(str(LIMIT_MAX))):
        raise ApiProblem("invalid_request", f"limit is 1 to {LIMIT_MAX}.")
    if not 1 <= int(given) <= LIMIT_MAX:
        raise ApiProblem("invalid_request", f"limit is 1 to {LIMIT_MAX}.")
    return int(given)
