"""Views of payments: translate in, one call, translate out."""

from typing import ClassVar

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.filters import read_customer
from apps.core import clock
from apps.core.api.pagination import check_query, list_page
from apps.core.api.problems import ApiProblem
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.core.ids import decode_id
from apps.payments import operations, queries
from apps.payments.api import examples, serializers
from apps.payments.states import UnmatchedState


class VirtualReferenceCollection(ApiView):
    """POST and GET /v1/virtual_references"""

    scopes: ClassVar = {"POST": "virtual_references:write", "GET": "virtual_references:read"}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.CreateVirtualReference,
            response=serializers.VirtualReference,
            status=201,
            summary="Give a customer a reference to be paid under",
            example=examples.CREATE_REFERENCE,
        ),
        "GET": Shape(
            response=serializers.VirtualReference,
            page=True,
            summary="List virtual references",
            query={"customer": "Only those of this customer."},
            example=examples.LIST_REFERENCES,
        ),
    }

    def post(self, request: Request) -> Response:
        caller = get_caller(request)
        body = serializers.CreateVirtualReference(data=request.data)
        body.is_valid(raise_exception=True)

        reference = operations.create_virtual_reference(
            organization_id=caller.organization_id,
            customer_id=body.validated_data["customer"],
            currency=body.validated_data["currency"],
            label=body.validated_data["label"],
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.VirtualReference(reference).data, status=201)

    def get(self, request: Request) -> Response:
        references = queries.list_virtual_references(
            organization_id=get_caller(request).organization_id,
            customer_id=read_customer(request),
        )
        return list_page(request, references, serializers.VirtualReference, filters=("customer",))


class VirtualReferenceResource(ApiView):
    """GET /v1/virtual_references/{id}"""

    scopes: ClassVar = {"GET": "virtual_references:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.VirtualReference,
            summary="Read a virtual reference",
            etag=True,
            example=examples.READ_REFERENCE,
        )
    }

    def get(self, request: Request, reference_id: str) -> Response | HttpResponse:
        check_query(request, ())
        reference = queries.get_virtual_reference(
            organization_id=get_caller(request).organization_id,
            virtual_reference_id=decode_id("vref", reference_id),
        )
        return resource(request, serializers.VirtualReference(reference).data)


class PaymentCollection(ApiView):
    """GET /v1/payments"""

    scopes: ClassVar = {"GET": "payments:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Payment,
            page=True,
            summary="List payments",
            query={"customer": "Only those of this customer."},
            example=examples.LIST_PAYMENTS,
        )
    }

    def get(self, request: Request) -> Response:
        payments = queries.list_payments(
            organization_id=get_caller(request).organization_id,
            customer_id=read_customer(request),
        )
        return list_page(request, payments, serializers.Payment, filters=("customer",))


class PaymentResource(ApiView):
    """GET /v1/payments/{id}"""

    scopes: ClassVar = {"GET": "payments:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.Payment,
            summary="Read a payment",
            etag=True,
            example=examples.READ_PAYMENT,
        )
    }

    def get(self, request: Request, payment_id: str) -> Response | HttpResponse:
        check_query(request, ())
        payment = queries.get_payment(
            organization_id=get_caller(request).organization_id,
            payment_id=decode_id("pay", payment_id),
        )
        return resource(request, serializers.Payment(payment).data)


class UnmatchedMoneyCollection(ApiView):
    """GET /v1/unmatched_money"""

    scopes: ClassVar = {"GET": "payments:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.UnmatchedMoney,
            page=True,
            summary="List money that nobody owned when it came",
            query={"state": "Only money in this state."},
            example=examples.LIST_UNMATCHED,
        )
    }

    def get(self, request: Request) -> Response:
        state = request.query_params.get("state")
        if state is not None and state not in UnmatchedState.values:
            raise ApiProblem("invalid_request", "There is no such state.")
        money = queries.list_unmatched_money(
            organization_id=get_caller(request).organization_id, state=state
        )
        return list_page(request, money, serializers.UnmatchedMoney, filters=("state",))
