"""Views of accounts: translate in, one call, translate out."""

from typing import ClassVar

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import operations, queries
from apps.accounts.api import examples, serializers
from apps.accounts.rules import CustomerDetails
from apps.accounts.states import CustomerState
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

READ, WRITE = "customers:read", "customers:write"


class Me(ApiView):
    """GET /v1/me"""

    scopes: ClassVar = {"GET": None}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Me,
            summary="Whose key this is, and what it may do",
            etag=True,
            example=examples.ME,
        )
    }

    def get(self, request: Request) -> Response | HttpResponse:
        check_query(request, ())
        caller = get_caller(request)
        key = queries.get_api_key(
            organization_id=caller.organization_id, api_key_id=caller.api_key_id
        )
        me = {"organization": key.organization, "api_key": key}
        return resource(request, serializers.Me(me).data)


class CustomerCollection(ApiView):
    """POST and GET /v1/customers"""

    scopes: ClassVar = {"POST": WRITE, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.CreateCustomer,
            response=serializers.Customer,
            status=201,
            summary="Create a customer, with an account in each currency",
            example=examples.CREATE_CUSTOMER,
        ),
        "GET": Shape(
            response=serializers.Customer,
            page=True,
            summary="List customers",
            query={
                "external_id": "Only the customer you call by this id.",
                "state": "Only customers in this state." + SIFTED,
                **METADATA_SIFTED_TOLD,
                **CREATED_TOLD,
            },
            example=examples.LIST_CUSTOMERS,
        ),
    }

    def post(self, request: Request) -> Response:
        caller = get_caller(request)
        body = serializers.CreateCustomer(data=request.data)
        body.is_valid(raise_exception=True)

        customer = operations.create_customer(
            organization_id=caller.organization_id,
            details=CustomerDetails(**body.validated_data),
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.Customer(customer).data, status=201)

    def get(self, request: Request) -> Response:
        external_id = read_text(request, "external_id")
        customers = queries.list_customers(
            organization_id=get_caller(request).organization_id, external_id=external_id
        )
        return list_page(
            request,
            customers,
            serializers.Customer,
            filters=("external_id", "state", *CREATED, *metadata_names(request)),
            timed=Timed("created_at", read_window(request, *CREATED), leads=external_id is None),
            sieve=equal(
                state=read_choice(request, "state", CustomerState.values),
                metadata__contains=read_metadata(request) or None,
            ),
        )


class CustomerResource(ApiView):
    """GET and PATCH /v1/customers/{id}"""

    scopes: ClassVar = {"GET": READ, "PATCH": WRITE}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Customer,
            summary="Read a customer",
            etag=True,
            example=examples.READ_CUSTOMER,
        ),
        "PATCH": Shape(
            request=serializers.ChangeCustomer,
            response=serializers.Customer,
            summary="Replace a customer's metadata",
            example=examples.CHANGE_CUSTOMER,
        ),
    }

    def get(self, request: Request, customer_id: str) -> Response | HttpResponse:
        check_query(request, ())
        customer = queries.get_customer(
            organization_id=get_caller(request).organization_id,
            customer_id=decode_id("cus", customer_id),
        )
        return resource(request, serializers.Customer(customer).data)

    def patch(self, request: Request, customer_id: str) -> Response:
        caller = get_caller(request)
        body = serializers.ChangeCustomer(data=request.data)
        body.is_valid(raise_exception=True)

        customer = operations.change_customer(
            organization_id=caller.organization_id,
            customer_id=decode_id("cus", customer_id),
            metadata=body.validated_data["metadata"],
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.Customer(customer).data)


class CustomerFreeze(ApiView):
    """POST /v1/customers/{id}/freeze"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.FreezeCustomer,
            response=serializers.Customer,
            summary="Freeze a customer at once; only Kassa's staff lift it",
            example=examples.FREEZE_CUSTOMER,
        )
    }

    def post(self, request: Request, customer_id: str) -> Response:
        caller = get_caller(request)
        body = serializers.FreezeCustomer(data=request.data)
        body.is_valid(raise_exception=True)

        customer = operations.freeze_customer(
            organization_id=caller.organization_id,
            customer_id=decode_id("cus", customer_id),
            reason=body.validated_data["reason"],
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.Customer(customer).data)
