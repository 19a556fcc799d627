"""Changing money over the API. Amounts are minor units; a rate is a decimal in a text."""

from dataclasses import asdict
from typing import Any, ClassVar, Final
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
    TextField,
    TruthField,
)
from apps.core.api.filters import (
    CREATED,
    METADATA_TOLD,
    clock_of,
    metadata_names,
    read_metadata,
    read_window,
)
from apps.core.api.pagination import PAGING_NAMES, check_query, list_page
from apps.core.api.shapes import StrictSerializer
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.core.ids import decode_id, encode_id
from apps.ledger import operations, queries
from apps.ledger.api import examples
from apps.ledger.api._searching import CREATED_AFTER_EFFECTIVE_TOLD, EFFECTIVE, EFFECTIVE_TOLD
from apps.ledger.api.asked import find_account, read_query
from apps.ledger.api.reversals import Reversal, ReverseEntry, printed
from apps.ledger.api.serializers import DRY_RUN, EffectiveField, TransferBalance
from apps.ledger.operations import FxRequest, FxResult
from apps.ledger.queries import FxSearch
from apps.ledger.rules import CLOCK_SKEW, QUOTE_SECONDS_MAX, RATE_DECIMALS_MAX, RATE_DIGITS_MAX

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
    quoted_at = InstantField(
        help_text=f"At most {QUOTE_SECONDS_MAX} seconds ago, and at most {CLOCK_SKEW.seconds} "
        "ahead of our clock: that of the example was right on its day."
    )
    reference = TextField(255, required=False)
    description = TextField(500, required=False, allow_blank=True)
    effective_at = EffectiveField(required=False)
    metadata = MetadataField()
    dry_run = TruthField(required=False, help_text=DRY_RUN)


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


class StandingFxTransfer(FxTransfer):
    reversals = serializers.ListField(
        child=IdField("je"),
        allow_null=True,
        help_text="The journal entries that undid it, the sold one's first; null while it stands.",
    )


class FxBalance(TransferBalance):
    ledger_account = IdField(
        "la", source="id", allow_null=True, help_text="null of liquidity that a dry run would open."
    )


class PostedFxTransfer(FxTransfer):
    id = IdField("fx", allow_null=True, help_text="null in a dry run.")
    sold_entry = IdField("je", source="sold_entry_id", allow_null=True)
    bought_entry = IdField("je", source="bought_entry_id", allow_null=True)
    created_at = InstantField(allow_null=True, help_text="null in a dry run.")
    balances = FxBalance(
        many=True,
        help_text="Of the two accounts, and of your liquidity in both currencies, right after; in a"
        " replay, now.",
    )
    dry_run = serializers.BooleanField()


class AskFxTransfers(StrictSerializer):
    ledger_account = IdField("la", required=False)
    reference = TextField(255, required=False)
    currency = CurrencyField(required=False)


class FxTransferCollection(ApiView):
    """POST and GET /v1/fx-transfers"""

    scopes: ClassVar = {"POST": WRITE, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=PostFxTransfer,
            response=PostedFxTransfer,
            status=201,
            summary="Change money at a quoted rate, through your own liquidity",
            example=examples.entries.EXCHANGE,
        ),
        "GET": Shape(
            response=FxTransfer,
            page=True,
            summary="List FX transfers",
            query={
                "ledger_account": "Only those that sold from this account or bought to it; sorted"
                " by the ids whatever the window.",
                "reference": "Only the one with this reference.",
                "currency": "Only those that sold or bought this currency.",
                **METADATA_TOLD,
                **EFFECTIVE_TOLD,
                **CREATED_AFTER_EFFECTIVE_TOLD,
            },
            example=examples.entries.LIST_EXCHANGES,
        ),
    }

    def post(self, request: Request) -> Response:
        caller = get_caller(request)
        body = PostFxTransfer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = dict(body.validated_data)
        dry_run = asked.pop("dry_run", False)
        fx = FxRequest(**asked)
        if dry_run:
            return Response(_dry(caller.organization_id, fx))

        result = operations.exchange(
            organization_id=caller.organization_id,
            fx=fx,
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(_posted(caller.organization_id, result), status=201)

    def get(self, request: Request) -> Response:
        names = (*EFFECTIVE, *CREATED, *metadata_names(request))
        asked = read_query(request, AskFxTransfers, more=[*PAGING_NAMES, *names])
        organization_id = get_caller(request).organization_id
        account_id = find_account(organization_id, asked.pop("ledger_account", None))
        effective, created = read_window(request, *EFFECTIVE), read_window(request, *CREATED)
        lanes = queries.fx_lanes(
            organization_id=organization_id,
            account_id=account_id,
            search=FxSearch(
                **asked, metadata=read_metadata(request), effective=effective, created=created
            ),
        )
        # An account has indexes of its own, in the order of ids.
        by = None if account_id else clock_of(effective_at=effective, created_at=created)
        filters = (*AskFxTransfers().fields, *names)
        return list_page(request, lanes, FxTransfer, filters=filters, clock=by)


class FxTransferResource(ApiView):
    """GET /v1/fx-transfers/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=StandingFxTransfer,
            summary="Read an FX transfer",
            etag=True,
            example=examples.entries.READ_EXCHANGE,
        )
    }

    def get(self, request: Request, fx_transfer_id: str) -> Response | HttpResponse:
        check_query(request, ())
        mine = get_caller(request).organization_id
        row = queries.get_fx_transfer(
            organization_id=mine, fx_transfer_id=decode_id("fx", fx_transfer_id)
        )
        parts = (row.sold_entry_id, row.bought_entry_id)
        undone = queries.reversals_of(organization_id=mine, entry_ids=parts)
        reversals = [encode_id("je", undone[id_]) for id_ in parts if id_ in undone]
        shown: dict[str, object] = FxTransfer(row).data
        return resource(request, {**shown, "reversals": reversals or None})


class FxReversal(ApiView):
    """POST /v1/fx-transfers/{id}/reversal"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=ReverseEntry,
            response=Reversal,
            status=201,
            summary="Undo an FX transfer: both of its journal entries, at the rate it had",
            example=examples.entries.REVERSE_EXCHANGE,
        )
    }

    def post(self, request: Request, fx_transfer_id: str) -> Response:
        caller = get_caller(request)
        body = ReverseEntry(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        what = {
            "organization_id": caller.organization_id,
            "fx_transfer_id": decode_id("fx", fx_transfer_id),
            "at": asked["at"],
            "now": clock.now(),
        }
        if asked.get("dry_run", False):
            return Response(printed(operations.preview_fx_reversal(**what), dry_run=True))

        result = operations.reverse_fx_transfer(
            **what,
            reason=asked["reason"],
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
        )

        return Response(printed(result, dry_run=False), status=201)


def _dry(organization_id: UUID, fx: FxRequest) -> dict[str, Any]:
    """Return an exchange as it would stand; one whose reference stands already as it does."""
    found = operations.preview_exchange(organization_id=organization_id, fx=fx, now=clock.now())
    if isinstance(found, FxResult):
        return _posted(organization_id, found, dry_run=True)
    would_be = {
        **asdict(fx),
        "id": None,
        "bought_minor": found.quoted.bought_minor,
        "remainder_minor": found.quoted.remainder_minor,
        "sold_entry_id": None,
        "bought_entry_id": None,
        "effective_at": found.effective_at,
        "created_at": None,
        "balances": [
            after._asdict() | ({"id": None} if after.id in found.unopened else {})
            for after in found.balances
        ],
        "dry_run": True,
    }
    return dict(PostedFxTransfer(would_be).data)


def _posted(organization_id: UUID, result: FxResult, *, dry_run: bool = False) -> dict[str, Any]:
    return _shown(organization_id, result.fx_transfer_id) | {
        "balances": FxBalance(result.balances, many=True).data,
        "dry_run": dry_run,
    }


def _shown(organization_id: UUID, fx_transfer_id: UUID) -> dict[str, object]:
    row = queries.get_fx_transfer(organization_id=organization_id, fx_transfer_id=fx_transfer_id)
    shown: dict[str, object] = FxTransfer(row).data
    return shown
