"""Views of payouts: translate in, one call, translate out."""

from typing import ClassVar, Final

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.filters import read_customer
from apps.core import clock
from apps.core.api.filters import (
    CREATED,
    CREATED_TOLD,
    METADATA_SIFTED_TOLD,
    SIFTED,
    Timed,
    equal,
    metadata_names,
    read_choice,
    read_metadata,
    read_window,
)
from apps.core.api.pagination import check_query, list_page, read_text
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.core.ids import decode_id
from apps.core.money import Money
from apps.payouts import operations, queries
from apps.payouts.api import examples, serializers
from apps.payouts.operations import DestinationDetails, PayoutDetails
from apps.payouts.states import DestinationState, PayoutState

READ, WRITE = "payouts:read", "payouts:write"
_FILTERS: Final = ("customer", "state", "external_id", *CREATED)


class DestinationCollection(ApiView):
    """POST and GET /v1/destinations"""

    scopes: ClassVar = {"POST": WRITE, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.CreateDestination,
            response=serializers.Destination,
            status=201,
            summary="Add a bank account to which a customer may be paid",
            example=examples.CREATE_DESTINATION,
        ),
        "GET": Shape(
            response=serializers.Destination,
            page=True,
            summary="List destinations",
            query={
                "customer": "Only this customer's; sorted by the ids whatever the window.",
                "state": "Only destinations in this state." + SIFTED,
                **CREATED_TOLD,
            },
            example=examples.LIST_DESTINATIONS,
        ),
    }

    def post(self, request: Request) -> Response:
        caller = get_caller(request)
        body = serializers.CreateDestination(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data

        destination = operations.create_destination(
            organization_id=caller.organization_id,
            details=DestinationDetails(
                customer_id=given["customer"],
                iban=given["iban"],
                holder_name=given["holder_name"],
                currency=given["currency"],
                bic=given["bic"],
                address=given["address"],
            ),
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.Destination(destination).data, status=201)

    def get(self, request: Request) -> Response:
        customer_id = read_customer(request)
        destinations = queries.list_destinations(
            organization_id=get_caller(request).organization_id, customer_id=customer_id
        )
        return list_page(
            request,
            destinations,
            serializers.Destination,
            filters=("customer", "state", *CREATED),
            timed=Timed("created_at", read_window(request, *CREATED), leads=customer_id is None),
            sieve=equal(state=read_choice(request, "state", DestinationState.values)),
        )


class DestinationResource(ApiView):
    """GET /v1/destinations/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Destination,
            summary="Read a destination",
            etag=True,
            example=examples.READ_DESTINATION,
        )
    }

    def get(self, request: Request, destination_id: str) -> Response | HttpResponse:
        check_query(request, ())
        destination = queries.get_destination(
            organization_id=get_caller(request).organization_id,
            destination_id=decode_id("dst", destination_id),
        )
        return resource(request, serializers.Destination(destination).data)


class DestinationDisable(ApiView):
    """POST /v1/destinations/{id}/disable"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.DisableDestination,
            response=serializers.Destination,
            summary="Disable a destination for good, and cancel what waits to go there",
            example=examples.DISABLE_DESTINATION,
        )
    }

    def post(self, request: Request, destination_id: str) -> Response:
        caller = get_caller(request)
        body = serializers.DisableDestination(data=request.data)
        body.is_valid(raise_exception=True)

        destination = operations.disable_destination(
            organization_id=caller.organization_id,
            destination_id=decode_id("dst", destination_id),
            reason=body.validated_data["reason"],
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.Destination(destination).data)


class PayoutCollection(ApiView):
    """POST and GET /v1/payouts"""

    scopes: ClassVar = {"POST": WRITE, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.RequestPayout,
            response=serializers.Payout,
            status=201,
            summary="Ask for a payout; amount and fee are reserved at once",
            example=examples.REQUEST_PAYOUT,
        ),
        "GET": Shape(
            response=serializers.Payout,
            page=True,
            summary="List payouts",
            query={
                "customer": "Only this customer's; sorted by the ids whatever the window.",
                "state": "Only payouts in this state." + SIFTED,
                "external_id": "Only the payout you call by this id.",
                **METADATA_SIFTED_TOLD,
                **CREATED_TOLD,
            },
            example=examples.LIST_PAYOUTS,
        ),
    }

    def post(self, request: Request) -> Response:
        caller = get_caller(request)
        body = serializers.RequestPayout(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data

        payout = operations.request_payout(
            organization_id=caller.organization_id,
            details=PayoutDetails(
                customer_id=given["customer"],
                destination_id=given["destination"],
                money=Money(given["amount"], given["currency"]),
                wished_date=given["execution_date"],
                remittance=given["remittance"],
                creditor_reference=given["creditor_reference"],
                external_id=given["external_id"],
                purpose=given["purpose"],
                metadata=given["metadata"],
            ),
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.Payout(payout).data, status=201)

    def get(self, request: Request) -> Response:
        customer_id, external_id = read_customer(request), read_text(request, "external_id")
        payouts = queries.list_payouts(
            organization_id=get_caller(request).organization_id,
            customer_id=customer_id,
            external_id=external_id,
        )
        created = read_window(request, *CREATED)
        return list_page(
            request,
            payouts,
            serializers.Payout,
            filters=(*_FILTERS, *metadata_names(request)),
            timed=Timed("requested_at", created, leads=customer_id is None and external_id is None),
            sieve=equal(
                state=read_choice(request, "state", PayoutState.values),
                metadata__contains=read_metadata(request) or None,
            ),
        )


class PayoutResource(ApiView):
    """GET /v1/payouts/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Payout,
            summary="Read a payout",
            etag=True,
            example=examples.READ_PAYOUT,
        )
    }

    def get(self, request: Request, payout_id: str) -> Response | HttpResponse:
        check_query(request, ())
        payout = queries.get_payout(
            organization_id=get_caller(request).organization_id,
            payout_id=decode_id("po", payout_id),
        )
        return resource(request, serializers.Payout(payout).data)


class PayoutCancel(ApiView):
    """POST /v1/payouts/{id}/cancel"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.CancelPayout,
            response=serializers.Payout,
            summary="Cancel a payout that is in no bank file yet",
            example=examples.CANCEL_PAYOUT,
        )
    }

    def post(self, request: Request, payout_id: str) -> Response:
        caller = get_caller(request)
        body = serializers.CancelPayout(data=request.data)
        body.is_valid(raise_exception=True)

        payout = operations.cancel_payout(
            organization_id=caller.organization_id,
            payout_id=decode_id("po", payout_id),
            reason=body.validated_data["reason"],
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.Payout(payout).data)
