"""Views of webhooks and of the event feed: translate in, one call, translate out."""

from datetime import datetime
from typing import Any, ClassVar, TypedDict
from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock, versions
from apps.core.api.caller import Caller
from apps.core.api.fields import InstantField
from apps.core.api.pagination import check_query, list_page
from apps.core.api.problems import ApiProblem
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.core.ids import decode_id
from apps.webhooks import operations, queries
from apps.webhooks.adapters.addresses import check_at_save
from apps.webhooks.api import serializers
from apps.webhooks.models import WebhookDelivery
from apps.webhooks.operations import EndpointTerms
from apps.webhooks.queries import DeliveryFilter
from apps.webhooks.rules import subscriptions, targets
from apps.webhooks.states import DeliveryStatus

READ, WRITE = "webhooks:read", "webhooks:write"


class _Named(TypedDict):
    organization_id: UUID
    endpoint_id: UUID


class EndpointCollection(ApiView):
    """POST and GET /v1/webhook_endpoints"""

    scopes: ClassVar = {"POST": WRITE, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.CreateEndpoint,
            response=serializers.EndpointWithSecret,
            status=201,
            summary="Create an endpoint; its signing secret is shown in this answer only",
        ),
        "GET": Shape(response=serializers.Endpoint, page=True, summary="List endpoints"),
    }

    def post(self, request: Request) -> Response:
        caller = get_caller(request)
        terms = _checked_shape(serializers.CreateEndpoint(data=request.data))
        terms.setdefault("api_version", versions.nearest(caller.kassa_version))

        endpoint, secret = operations.create_endpoint(
            organization_id=caller.organization_id,
            terms=EndpointTerms(**terms),
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        shown = serializers.EndpointWithSecret(endpoint, context={"secret": secret})
        return Response(shown.data, status=201)

    def get(self, request: Request) -> Response:
        endpoints = queries.list_endpoints(organization_id=get_caller(request).organization_id)
        return list_page(request, endpoints, serializers.Endpoint)


class EndpointResource(ApiView):
    """GET, PATCH and DELETE /v1/webhook_endpoints/{id}"""

    scopes: ClassVar = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}
    shapes: ClassVar = {
        "GET": Shape(response=serializers.Endpoint, summary="Read an endpoint", etag=True),
        "PATCH": Shape(
            request=serializers.ChangeEndpoint,
            response=serializers.Endpoint,
            summary="Change an endpoint",
        ),
        "DELETE": Shape(status=204, summary="Delete an endpoint; its history stays"),
    }

    def get(self, request: Request, endpoint_id: str) -> Response | HttpResponse:
        check_query(request, ())
        endpoint = queries.get_endpoint(
            organization_id=get_caller(request).organization_id,
            endpoint_id=decode_id("whe", endpoint_id),
        )
        return resource(request, serializers.Endpoint(endpoint).data)

    def patch(self, request: Request, endpoint_id: str) -> Response:
        caller = get_caller(request)
        changes = _checked_shape(serializers.ChangeEndpoint(data=request.data))

        endpoint = operations.update_endpoint(
            **_named(caller, endpoint_id), changes=changes, actor=caller.actor, now=clock.now()
        )

        return Response(serializers.Endpoint(endpoint).data)

    def delete(self, request: Request, endpoint_id: str) -> Response:
        caller = get_caller(request)
        operations.delete_endpoint(
            **_named(caller, endpoint_id), actor=caller.actor, now=clock.now()
        )
        return Response(status=204)


class EndpointRotateSecret(ApiView):
    """POST /v1/webhook_endpoints/{id}/rotate_secret"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.RotateSecret,
            response=serializers.EndpointWithSecret,
            summary="Give an endpoint a new secret; the old one signs beside it for a while",
        )
    }

    def post(self, request: Request, endpoint_id: str) -> Response:
        caller = get_caller(request)
        body = serializers.RotateSecret(data=request.data)
        body.is_valid(raise_exception=True)

        endpoint, secret = operations.rotate_secret(
            **_named(caller, endpoint_id),
            **body.validated_data,
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        shown = serializers.EndpointWithSecret(endpoint, context={"secret": secret})
        return Response(shown.data)


class EndpointPing(ApiView):
    """POST /v1/webhook_endpoints/{id}/ping"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            response=serializers.Endpoint, status=202, summary="Send a webhook.ping to an endpoint"
        )
    }

    def post(self, request: Request, endpoint_id: str) -> Response:
        caller = get_caller(request)
        endpoint = operations.ping_endpoint(
            **_named(caller, endpoint_id),
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )
        return Response(serializers.Endpoint(endpoint).data, status=202)


class EndpointDisable(ApiView):
    """POST /v1/webhook_endpoints/{id}/disable"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.WithReason,
            response=serializers.Endpoint,
            summary="Switch an endpoint off; what it is owed is kept",
        )
    }

    def post(self, request: Request, endpoint_id: str) -> Response:
        caller = get_caller(request)
        body = serializers.WithReason(data=request.data)
        body.is_valid(raise_exception=True)

        endpoint = operations.disable_endpoint(
            **_named(caller, endpoint_id),
            **body.validated_data,
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.Endpoint(endpoint).data)


class EndpointEnable(ApiView):
    """POST /v1/webhook_endpoints/{id}/enable"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.EnableEndpoint,
            response=serializers.Endpoint,
            summary="Switch an endpoint on, and say what becomes of what was set aside",
        )
    }

    def post(self, request: Request, endpoint_id: str) -> Response:
        caller = get_caller(request)
        body = serializers.EnableEndpoint(data=request.data)
        body.is_valid(raise_exception=True)

        endpoint = operations.enable_endpoint(
            **_named(caller, endpoint_id),
            **body.validated_data,
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.Endpoint(endpoint).data)


class EndpointReplay(ApiView):
    """POST /v1/webhook_endpoints/{id}/replay"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.ReplayFailed,
            response=serializers.Replay,
            status=202,
            summary="Send again all that failed for good since an instant",
        )
    }

    def post(self, request: Request, endpoint_id: str) -> Response:
        caller = get_caller(request)
        body = serializers.ReplayFailed(data=request.data)
        body.is_valid(raise_exception=True)

        replay = operations.replay_failed(
            **_named(caller, endpoint_id),
            **body.validated_data,
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.Replay(replay).data, status=202)


class DeliveryCollection(ApiView):
    """GET /v1/webhook_deliveries"""

    scopes: ClassVar = {"GET": READ}
    filters: ClassVar = {
        "endpoint": "Only deliveries to this endpoint.",
        "event": "Only deliveries of this event.",
        "status": "Only deliveries in this status.",
        "created_from": "Only deliveries created then or later.",
        "created_before": "Only deliveries created before.",
    }
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Delivery, page=True, summary="List deliveries", query=filters
        )
    }

    def get(self, request: Request) -> Response:
        asked = request.query_params
        status = asked.get("status")
        if status is not None and status not in DeliveryStatus.values:
            raise ApiProblem("invalid_request", "There is no such status.")
        caller = get_caller(request)
        wanted = DeliveryFilter(
            hidden_types=_hidden_types(caller),
            endpoint_id=_id_or_none("whe", asked.get("endpoint")),
            event_id=_id_or_none("evt", asked.get("event")),
            status=status,
            created_from=_instant_or_none(asked.get("created_from")),
            created_before=_instant_or_none(asked.get("created_before")),
        )
        deliveries = queries.list_deliveries(organization_id=caller.organization_id, wanted=wanted)
        return list_page(request, deliveries, serializers.Delivery, filters=self.filters)


class DeliveryResource(ApiView):
    """GET /v1/webhook_deliveries/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(response=serializers.Delivery, summary="Read a delivery", etag=True)
    }

    def get(self, request: Request, delivery_id: str) -> Response | HttpResponse:
        check_query(request, ())
        return resource(request, serializers.Delivery(_delivery(request, delivery_id)).data)


class DeliveryAttempts(ApiView):
    """GET /v1/webhook_deliveries/{id}/attempts"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(response=serializers.Attempt, page=True, summary="List a delivery's attempts")
    }

    def get(self, request: Request, delivery_id: str) -> Response:
        delivery = _delivery(request, delivery_id)
        attempts = queries.list_attempts(
            organization_id=delivery.organization_id, delivery_id=delivery.id
        )
        return list_page(request, attempts, serializers.Attempt)


class DeliveryReplay(ApiView):
    """POST /v1/webhook_deliveries/{id}/replay"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.WithReason,
            response=serializers.Delivery,
            status=202,
            summary="Send a delivery that has ended once more",
        )
    }

    def post(self, request: Request, delivery_id: str) -> Response:
        caller = get_caller(request)
        body = serializers.WithReason(data=request.data)
        body.is_valid(raise_exception=True)

        delivery = operations.replay_delivery(
            organization_id=caller.organization_id,
            delivery_id=decode_id("whd", delivery_id),
            **body.validated_data,
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.Delivery(delivery).data, status=202)


def _checked_shape(body: Any) -> dict[str, Any]:  # noqa: ANN401  (a serializer)
    """Return the body's values, once its URL leads somewhere public."""
    body.is_valid(raise_exception=True)
    values: dict[str, Any] = dict(body.validated_data)
    if "url" in values:
        policy = queries.get_policy()
        check_at_save(targets.parse_url(values["url"], policy=policy), policy=policy)
    return values


def _hidden_types(caller: Caller) -> dict[str, str]:
    return subscriptions.hidden_types(queries.get_read_scopes(), scopes=caller.scopes)


def _delivery(request: Request, delivery_id: str) -> WebhookDelivery:
    """Return a delivery whose event the caller may read: it tells of that, and so may answers."""
    caller = get_caller(request)
    return queries.get_delivery(
        organization_id=caller.organization_id,
        delivery_id=decode_id("whd", delivery_id),
        hidden_types=_hidden_types(caller),
    )


def _named(caller: Caller, endpoint_id: str) -> _Named:
    return {
        "organization_id": caller.organization_id,
        "endpoint_id": decode_id("whe", endpoint_id),
    }


def _id_or_none(prefix: str, text: str | None) -> UUID | None:
    return None if text is None else decode_id(prefix, text)


def _instant_or_none(text: str | None) -> datetime | None:
    if text is None:
        return None
    # In a URL a bare plus is a blank.
    found: datetime = InstantField().run_validation(text.replace(" ", "+"))
    return found
