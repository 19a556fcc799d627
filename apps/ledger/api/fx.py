"""Changing money over the API. Amounts are minor units; a rate is a decimal in a text."""

from typing import ClassVar, Final
from uuid import UUID

from django.http import HttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.fields import (
    AmountField,
    CurrencyField,
    DecimalField,
    IdField,
    InstantField,
    MetadataField,
    StrictSerializer,
    TextField,
)
from apps.core.api.pagination import check_query, list_page
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.core.ids import decode_id
from apps.ledger import operations, queries
from apps.ledger.api import examples
from apps.ledger.api.serializers import EffectiveField
from apps.ledger.operations import FxRequest
from apps.ledger.rules import RATE_DECIMALS_MAX, RATE_DIGITS_MAX

READ: Final = "ledger:read"
WRITE: Final = "fx:write"
REMAINDER_DECIMALS_MAX: Final = 20


class PostFxTransfer(StrictSerializer):
    from_account = IdField("la", source="from_account_id", help_text="What is sold leaves it.")
    to_account = IdField("la", source="to_account_id", help_text="What is bought arrives on it.")
    amount = AmountField(source="sold_minor", help_text="What is sold.")
    currency = CurrencyField(source="sold_currency")
    bought_currency = CurrencyField()
    rate = DecimalField(
        digits=RATE_DIGITS_MAX,
        places=RATE_DECIMALS_MAX,
        help_text="Major units bought for one major unit sold.",
    )
    # A serializer has a `source` of its own, and its metaclass keeps this one apart from it.
    source = TextField(100, help_text="Whose quote it is.")  # type: ignore[assignment]
    quoted_at = InstantField()
    reference = TextField(255, required=False)
    description = TextField(500, required=False, allow_blank=True)
    effective_at = EffectiveField(required=False)
    metadata = MetadataField()


class FxTransfer(StrictSerializer):
    id = IdField("fx")
    from_account = IdField("la", source="from_account_id")
    to_account = IdField("la", source="to_account_id")
    amount = serializers.IntegerField(source="sold_minor")
    currency = serializers.CharField(source="sold_currency")
    bought_amount = serializers.IntegerField(source="bought_minor")
    bought_currency = serializers.CharField()
    rate = DecimalField(digits=RATE_DIGITS_MAX, places=RATE_DECIMALS_MAX)
    remainder = DecimalField(
        digits=1,
        places=REMAINDER_DECIMALS_MAX,
        source="remainder_minor",
        help_text="The part of a bought minor unit that rounding left to liquidity, exact.",
    )
    source = serializers.CharField()  # type: ignore[assignment]
    quoted_at = InstantField()
    sold_entry = IdField("je", source="sold_entry_id")
    bought_entry = IdField("je", source="bought_entry_id")
    reference = serializers.CharField(allow_null=True)
    description = serializers.CharField()
    effective_at = InstantField()
    created_at = InstantField()
    metadata = MetadataField()


class FxTransferCollection(ApiView):
    """POST and GET /v1/fx-transfers"""

    scopes: ClassVar = {"POST": WRITE, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=PostFxTransfer,
            response=FxTransfer,
            status=201,
            summary="Change money at a quoted rate, through your own liquidity",
            example=examples.EXCHANGE,
        ),
        "GET": Shape(
            response=FxTransfer,
            page=True,
            summary="List FX transfers",
            query={"reference": "Only the one with this reference."},
            example=examples.LIST_EXCHANGES,
        ),
    }

    def post(self, request: Request) -> Response:
        caller = get_caller(request)
        body = PostFxTransfer(data=request.data)
        body.is_valid(raise_exception=True)

        fx_transfer_id = operations.exchange(
            organization_id=caller.organization_id,
            fx=FxRequest(**body.validated_data),
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(_shown(caller.organization_id, fx_transfer_id), status=201)

    def get(self, request: Request) -> Response:
        rows = queries.fx_transfers(
            organization_id=get_caller(request).organization_id,
            reference=request.query_params.get("reference"),
        )
        return list_page(request, rows, FxTransfer, filters=("reference",))


class FxTransferResource(ApiView):
    """GET /v1/fx-transfers/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=FxTransfer,
            summary="Read an FX transfer",
            etag=True,
            example=examples.READ_EXCHANGE,
        )
    }

    def get(self, request: Request, fx_transfer_id: str) -> Response | HttpResponse:
        check_query(request, ())
        return resource(
            request, _shown(get_caller(request).organization_id, decode_id("fx", fx_transfer_id))
        )


def _shown(organization_id: UUID, fx_transfer_id: UUID) -> dict[str, object]:
    row = queries.get_fx_transfer(organization_id=organization_id, fx_transfer_id=fx_transfer_id)
    shown: dict[str, object] = FxTransfer(row).data
    return shown
