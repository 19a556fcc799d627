"""Views of payments: translate in, one call, translate out."""

from typing import ClassVar

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.filters import read_customer
from apps.core import clock
from apps.core.api.filters import (
    CREATED,
    CREATED_TOLD,
    SIFTED,
    Timed,
    equal,
    read_choice,
    read_window,
)
from apps.core.api.pagination import check_query, list_page, read_text
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.core.ids import decode_id
from apps.payments import operations, queries
from apps.payments.api import examples, serializers
from apps.payments.states import ReferenceState, UnmatchedState


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
            query={
                "customer": "Only those of this customer; sorted by the ids whatever the window.",
                "reference": "Only the one with this text, RF and digits.",
                "state": "Only references in this state." + SIFTED,
                **CREATED_TOLD,
            },
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
        customer_id, reference = read_customer(request), read_text(request, "reference")
        references = queries.list_virtual_references(
            organization_id=get_caller(request).organization_id,
            customer_id=customer_id,
            reference=reference,
        )
        created = read_window(request, *CREATED)
        return list_page(
            request,
            references,
            serializers.VirtualReference,
            filters=("customer", "reference", "state", *CREATED),
            timed=Timed("created_at", created, leads=customer_id is None and reference is None),
            sieve=equal(state=read_choice(request, "state", ReferenceState.values)),
        )


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
            query={
                "customer": "Only those of this customer; sorted by the ids whatever the window.",
                "virtual_reference": "Only those under this reference; sorted by the ids whatever"
                " the window." + SIFTED,
                **CREATED_TOLD,
            },
            example=examples.LIST_PAYMENTS,
        )
    }

    def get(self, request: Request) -> Response:
        organization_id = get_caller(request).organization_id
        customer_id = read_customer(request)
        reference, given = None, request.query_params.get("virtual_reference")
        if given is not None:
            reference = queries.get_virtual_reference(
                organization_id=organization_id, virtual_reference_id=decode_id("vref", given)
            )
        payments = queries.list_payments(
            organization_id=organization_id, customer_id=customer_id, reference=reference
        )
        created = read_window(request, *CREATED)
        return list_page(
            request,
            payments,
            serializers.Payment,
            filters=("customer", "virtual_reference", *CREATED),
            timed=Timed("created_at", created, leads=customer_id is None and reference is None),
            sieve=equal(virtual_reference_id=reference and reference.id),
        )


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
            query={"state": "Only money in this state." + SIFTED, **CREATED_TOLD},
            example=examples.LIST_UNMATCHED,
        )
    }

    def get(self, request: Request) -> Response:
        money = queries.list_unmatched_money(organization_id=get_caller(request).organization_id)
        return list_page(
            request,
            money,
            serializers.UnmatchedMoney,
            filters=("state", *CREATED),
            timed=Timed("created_at", read_window(request, *CREATED)),
            sieve=equal(state=read_choice(request, "state", UnmatchedState.values)),
        )
