"""Views of deliveries: translate in, one call, translate out."""

from typing import ClassVar, Final
from uuid import UUID

from django.db.models import Q
from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.caller import Caller
from apps.core.api.filters import CREATED, SIFTED, Timed, equal, read_choice, read_window
from apps.core.api.pagination import check_query, list_page
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.core.ids import decode_id
from apps.webhooks import operations, queries
from apps.webhooks.api import examples, serializers
from apps.webhooks.models import WebhookDelivery
from apps.webhooks.queries import DeliveryFilter
from apps.webhooks.rules import subscriptions
from apps.webhooks.states import DeliveryStatus

READ, WRITE = "webhooks:read", "webhooks:write"
# Those of an endpoint that an index has in the order of the list.
_INDEXED: Final = (DeliveryStatus.PAUSED, DeliveryStatus.FAILED)


class DeliveryCollection(ApiView):
    """GET /v1/webhook_deliveries"""

    scopes: ClassVar = {"GET": READ}
    filters: ClassVar = {
        "endpoint": "Only deliveries to this endpoint.",
        "event": "Only deliveries of this event.",
        "status": "Only deliveries in this status." + SIFTED,
        "created_from": "Only deliveries created then or later." + SIFTED,
        "created_before": "Only deliveries created before." + SIFTED,
    }
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Delivery,
            page=True,
            summary="List deliveries",
            query=filters,
            example=examples.LIST_DELIVERIES,
        )
    }

    def get(self, request: Request) -> Response:
        asked = request.query_params
        status = read_choice(request, "status", DeliveryStatus.values)
        caller, endpoint_id = get_caller(request), _id_or_none("whe", asked.get("endpoint"))
        if endpoint_id is not None:
            queries.require_endpoint(
                organization_id=caller.organization_id, endpoint_id=endpoint_id
            )
        has_index = endpoint_id is not None and status in _INDEXED
        wanted = DeliveryFilter(
            endpoint_id=endpoint_id,
            # Not looked for: events go with their weeks, and their deliveries may stay longer.
            event_id=_id_or_none("evt", asked.get("event")),
            status=status if has_index else None,
        )
        deliveries = queries.list_deliveries(organization_id=caller.organization_id, wanted=wanted)
        sieve = equal(status=None if has_index else status)
        if hidden := _hidden_types(caller):
            sieve &= ~Q(event_type__in=list(hidden))
        return list_page(
            request,
            deliveries,
            serializers.Delivery,
            filters=self.filters,
            # An index of the time would be written with each of their states (ADR 0170).
            timed=Timed("created_at", read_window(request, *CREATED), leads=False),
            sieve=sieve,
        )


class DeliveryResource(ApiView):
    """GET /v1/webhook_deliveries/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Delivery,
            summary="Read a delivery",
            etag=True,
            example=examples.READ_DELIVERY,
        )
    }

    def get(self, request: Request, delivery_id: str) -> Response | HttpResponse:
        check_query(request, ())
        return resource(request, serializers.Delivery(_delivery(request, delivery_id)).data)


class DeliveryAttempts(ApiView):
    """GET /v1/webhook_deliveries/{id}/attempts"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Attempt,
            page=True,
            summary="List a delivery's attempts",
            example=examples.LIST_ATTEMPTS,
        )
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
            example=examples.REPLAY_DELIVERY,
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


def _id_or_none(prefix: str, text: str | None) -> UUID | None:
    return None if text is None else decode_id(prefix, text)
