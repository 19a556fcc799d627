"""Holds over the API: money reserved, captured in whole or part, given up."""

from dataclasses import asdict, replace
from typing import Any, ClassVar, Final
from uuid import UUID

from django.http import HttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.fields import (
    AMOUNT_MAX,
    AmountField,
    CodeField,
    CurrencyField,
    IdField,
    InstantField,
    IntegerField,
    MetadataField,
    TextField,
    TruthField,
)
from apps.core.api.filters import (
    CREATED,
    CREATED_TOLD,
    METADATA_TOLD,
    clock_of,
    metadata_names,
    read_metadata,
    read_window,
)
from apps.core.api.pagination import PAGING_NAMES, check_query, list_page
from apps.core.api.problems import ApiProblem
from apps.core.api.shapes import StrictSerializer as Strict
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.core.ids import decode_id
from apps.ledger import operations, queries
from apps.ledger.api import examples
from apps.ledger.api.asked import find_account, read_query
from apps.ledger.api.serializers import (
    DRY_RUN,
    EffectiveField,
    Hold,
    HoldEvent,
    HoldWithEvents,
    TransferBalance,
    ViewedPage,
)
from apps.ledger.operations import CaptureRequest, HoldPreview, HoldRequest, HoldResult
from apps.ledger.queries import HoldSearch, HoldView
from apps.ledger.rules import HoldStatus

READ: Final = "ledger:read"
WRITE: Final = "holds:write"


class PlaceHold(Strict):
    debit_account = IdField(
        "la",
        source="debit_account_id",
        help_text="What a capture debits. If it is of a type that money leaves by debit (liability,"
        " equity, income), the amount is reserved on it.",
    )
    credit_account = IdField(
        "la",
        source="credit_account_id",
        help_text="What a capture credits. If it is of a type that money leaves by credit (asset,"
        " expense), the amount is reserved on it.",
    )
    amount = AmountField(source="amount_minor")
    currency = CurrencyField()
    reference = TextField(
        255,
        required=False,
        help_text="Names one hold for ever: asked for again it is answered as it is now, if it has"
        " ended too, and other terms under it are refused.",
    )
    expires_at = InstantField(
        required=False,
        help_text="From then on it is over; later than now, but for that of a hold that stands"
        " under its `reference`.",
    )
    multi_capture = TruthField(
        required=False, help_text="Captured in parts until it is used up; else once."
    )
    metadata = MetadataField()
    dry_run = TruthField(required=False, help_text=DRY_RUN)


class CaptureHold(Strict):
    amount = IntegerField(
        least=0, most=AMOUNT_MAX, required=False, source="amount_minor",
        help_text="All that is left without it; 0 releases all.",
    )  # fmt: skip
    description = TextField(500, required=False, allow_blank=True)
    effective_at = EffectiveField(required=False)
    metadata = MetadataField()
    dry_run = TruthField(required=False, help_text=DRY_RUN)


class VoidHold(Strict):
    dry_run = TruthField(required=False, help_text=DRY_RUN)


class AskHolds(Strict):
    ledger_account = IdField("la", required=False)
    direction = CodeField(["out", "in"], required=False)
    status = CodeField([status.value for status in HoldStatus], required=False)
    reference = TextField(255, required=False)


class ListedHold(Hold):
    class Meta:
        list_serializer_class = ViewedPage


class ActedHold(Hold):
    id = IdField("ho", allow_null=True, help_text="null where a dry run would make it.")
    created_at = InstantField(allow_null=True, help_text="null where a dry run would make it.")


class HoldAct(Strict):
    hold = ActedHold(help_text="As it is now; in a dry run as it would be.")
    journal_entry = IdField("je", allow_null=True, help_text="What a capture posted.")
    balances = TransferBalance(many=True, help_text="Right after; in a replay, now.")
    dry_run = serializers.BooleanField()


class HoldCollection(ApiView):
    """POST and GET /v1/holds"""

    scopes: ClassVar = {"POST": WRITE, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=PlaceHold,
            response=HoldAct,
            status=201,
            summary="Reserve money of an account",
            example=examples.accounts.PLACE_HOLD,
        ),
        "GET": Shape(
            response=Hold,
            page=True,
            summary="List holds",
            query={
                "ledger_account": "Only holds on this account's money, or with direction=in those"
                " whose money it would get; sorted by the ids whatever the window.",
                "direction": "out or in, of a ledger_account: out without it. Those that are open"
                " come to its pending_out and its pending_in.",
                "status": "open, captured, voided or expired, as of now.",
                "reference": "Only holds with this reference.",
                **METADATA_TOLD,
                **CREATED_TOLD,
            },
            example=examples.accounts.LIST_HOLDS,
        ),
    }

    def post(self, request: Request) -> Response:
        caller, now = get_caller(request), clock.now()
        body = PlaceHold(data=request.data)
        body.is_valid(raise_exception=True)
        asked = dict(body.validated_data)
        dry_run = asked.pop("dry_run", False)
        hold = HoldRequest(**asked)
        if dry_run:
            found = operations.preview_hold(
                organization_id=caller.organization_id, hold=hold, now=now
            )
            stands = _view(caller.organization_id, found.hold_id) if found.hold_id else None
            return Response(_preview(stands or _would_be(hold, found), found))

        result = operations.place_hold(
            organization_id=caller.organization_id,
            hold=hold,
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=now,
        )

        return Response(_act(caller.organization_id, result), status=201)

    def get(self, request: Request) -> Response:
        now, names = clock.now(), [*CREATED, *metadata_names(request)]
        asked = read_query(request, AskHolds, more=[*PAGING_NAMES, *names])
        organization_id = get_caller(request).organization_id
        created = read_window(request, *CREATED)
        account_id = find_account(organization_id, asked.pop("ledger_account", None))
        direction = asked.pop("direction", None)
        if direction is not None and account_id is None:
            raise ApiProblem("invalid_request", "A direction is that of a ledger_account.")
        rows = queries.holds(
            organization_id=organization_id,
            search=HoldSearch(
                account_id=account_id,
                incoming=direction == "in",
                **asked,
                metadata=read_metadata(request),
                created=created,
            ),
            now=now,
        )

        def view(page: list[Any]) -> list[HoldView]:
            return [queries.view_hold(row, now=now) for row in page]

        return list_page(
            request,
            rows,
            ListedHold,
            filters=(*AskHolds().fields, *names),
            context={"view": view},
            # An account has an index of its own, in the order of ids.
            clock=clock_of(created_at=created) if account_id is None else None,
        )


class HoldResource(ApiView):
    """GET /v1/holds/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=HoldWithEvents,
            summary="Read a hold, and with it what happened to it",
            query={"expand[]": "events: its placing, captures and end, of the same instant."},
            etag=True,
            example=examples.accounts.READ_HOLD,
        )
    }

    def get(self, request: Request, hold_id: str) -> Response | HttpResponse:
        check_query(request, ("expand[]",))
        organization_id, id_ = get_caller(request).organization_id, decode_id("ho", hold_id)
        expand = request.query_params.get("expand[]")
        if expand is None:
            return resource(request, Hold(_view(organization_id, id_)).data)
        if expand != "events":
            raise ApiProblem("invalid_request", "expand[] is events here.")
        view, events, has_more = queries.hold_with_events(
            organization_id=organization_id, hold_id=id_, now=clock.now()
        )
        shown = Hold(view).data | {
            "events": HoldEvent(events, many=True).data,
            "has_more_events": has_more,
        }
        return resource(request, shown)


class HoldCapture(ApiView):
    """POST /v1/holds/{id}/capture"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=CaptureHold,
            response=HoldAct,
            summary="Post what a hold reserved, in whole or in part",
            example=examples.accounts.CAPTURE_HOLD,
        )
    }

    def post(self, request: Request, hold_id: str) -> Response:
        caller, id_ = get_caller(request), decode_id("ho", hold_id)
        body = CaptureHold(data=request.data)
        body.is_valid(raise_exception=True)
        asked = dict(body.validated_data)
        dry_run = asked.pop("dry_run", False)
        capture = CaptureRequest(**asked)
        if dry_run:
            found = operations.preview_capture(
                organization_id=caller.organization_id, hold_id=id_, capture=capture,
                now=clock.now(),
            )  # fmt: skip
            return Response(_preview(_left(caller.organization_id, id_, found), found))

        result = operations.capture_hold(
            organization_id=caller.organization_id,
            hold_id=id_,
            capture=capture,
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(_act(caller.organization_id, result))


class HoldVoid(ApiView):
    """POST /v1/holds/{id}/void"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=VoidHold,
            response=HoldAct,
            summary="Give up what a hold still reserves",
            example=examples.accounts.VOID_HOLD,
        )
    }

    def post(self, request: Request, hold_id: str) -> Response:
        caller, id_ = get_caller(request), decode_id("ho", hold_id)
        body = VoidHold(data=request.data)
        body.is_valid(raise_exception=True)
        if body.validated_data.get("dry_run", False):
            found = operations.preview_void(
                organization_id=caller.organization_id, hold_id=id_, now=clock.now()
            )
            return Response(_preview(_left(caller.organization_id, id_, found), found))

        result = operations.void_hold(
            organization_id=caller.organization_id,
            hold_id=id_,
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(_act(caller.organization_id, result))


def _view(organization_id: UUID, hold_id: UUID) -> HoldView:
    return queries.get_hold(organization_id=organization_id, hold_id=hold_id, now=clock.now())


def _act(organization_id: UUID, result: HoldResult) -> dict[str, Any]:
    printed = HoldAct(
        {
            "hold": _view(organization_id, result.hold_id),
            "journal_entry": result.entry_id,
            "balances": result.balances,
            "dry_run": False,
        }
    )
    return dict(printed.data)


def _left(organization_id: UUID, hold_id: UUID, found: HoldPreview) -> HoldView:
    """Return a hold that stands as an act would leave it."""
    return replace(
        _view(organization_id, hold_id),
        status=found.hold.status,
        captured_minor=found.hold.captured_minor,
        remaining_minor=_remaining(found),
    )


def _would_be(asked: HoldRequest, found: HoldPreview) -> dict[str, Any]:
    """Return a hold that would be placed."""
    return {
        **asdict(asked),
        "id": None,
        "captured_minor": found.hold.captured_minor,
        "remaining_minor": _remaining(found),
        "status": found.hold.status,
        "created_at": None,
        "metadata": asked.metadata or {},
    }


def _remaining(found: HoldPreview) -> int:
    return found.hold.remaining_minor if found.hold.status == HoldStatus.OPEN else 0


def _preview(hold: HoldView | dict[str, Any], found: HoldPreview) -> dict[str, Any]:
    printed = HoldAct(
        {"hold": hold, "journal_entry": None, "balances": found.balances, "dry_run": True}
    )
    return dict(printed.data)
