"""Views of webhook endpoints: translate in, one call, translate out."""

from typing import Any, ClassVar, TypedDict
from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock, versions
from apps.core.api.caller import Caller
from apps.core.api.pagination import check_query, list_page
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.core.ids import decode_id
from apps.webhooks import operations, queries
from apps.webhooks.adapters.addresses import check_at_save
from apps.webhooks.api import examples, serializers
from apps.webhooks.operations import EndpointTerms
from apps.webhooks.rules import targets

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
            example=examples.CREATE_ENDPOINT,
        ),
        "GET": Shape(
            response=serializers.Endpoint,
            page=True,
            summary="List endpoints",
            example=examples.LIST_ENDPOINTS,
        ),
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
        "GET": Shape(
            response=serializers.Endpoint,
            summary="Read an endpoint",
            etag=True,
            example=examples.READ_ENDPOINT,
        ),
        "PATCH": Shape(
            request=serializers.ChangeEndpoint,
            response=serializers.Endpoint,
            summary="Change an endpoint",
            example=examples.CHANGE_ENDPOINT,
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
            example=examples.ROTATE_SECRET,
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
            response=serializers.Endpoint,
            status=202,
            summary="Send a webhook.ping to an endpoint",
            example=examples.PING_ENDPOINT,
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
            example=examples.DISABLE_ENDPOINT,
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
            example=examples.ENABLE_ENDPOINT,
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
            example=examples.REPLAY_FAILED,
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


def _checked_shape(body: Any) -> dict[str, Any]:  # noqa: ANN401  (a serializer)
    """Return the body's values, once its URL leads somewhere public."""
    body.is_valid(raise_exception=True)
    values: dict[str, Any] = dict(body.validated_data)
    if "url" in values:
        policy = queries.get_policy()
        check_at_save(targets.parse_url(values["url"], policy=policy), policy=policy)
    return values


def _named(caller: Caller, endpoint_id: str) -> _Named:
    return {
        "organization_id": caller.organization_id,
        "endpoint_id": decode_id("whe", endpoint_id),
    }
