"""Balance monitors over the API. Thresholds are minor units on the account's normal side."""

from typing import ClassVar, Final
from uuid import UUID

from django.http import HttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.fields import CodeField, IdField, InstantField, IntegerField, TextField
from apps.core.api.filters import CREATED, CREATED_TOLD, clock_of, read_window
from apps.core.api.pagination import check_query, list_page
from apps.core.api.problems import ApiProblem
from apps.core.api.shapes import StrictSerializer as Strict
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.core.ids import decode_id
from apps.ledger import operations, queries
from apps.ledger.api import examples
from apps.ledger.api.asked import find_account
from apps.ledger.operations import MonitorTerms
from apps.ledger.rules import COUNTER_MAX, MonitorDirection, MonitorMeasure

READ: Final = "ledger:read"
WRITE: Final = "monitors:write"
_TRUTHS: Final = {"true": True, "false": False}


class CreateBalanceMonitor(Strict):
    ledger_account = IdField("la")
    measure = CodeField([measure.value for measure in MonitorMeasure])
    direction = CodeField([direction.value for direction in MonitorDirection])
    threshold = IntegerField(
        least=-COUNTER_MAX, most=COUNTER_MAX, help_text="Equal to it is not beyond it."
    )
    description = TextField(500, required=False, allow_blank=True, default="")


class BalanceMonitor(Strict):
    id = IdField("bm")
    ledger_account = IdField("la", source="account_id")
    measure = serializers.CharField()
    direction = serializers.CharField()
    threshold = serializers.IntegerField(source="threshold_minor")
    description = serializers.CharField()
    active = serializers.BooleanField(source="is_active")
    beyond = serializers.BooleanField(
        source="is_beyond", help_text="Whether the balance stood beyond the threshold last."
    )
    triggered = serializers.IntegerField(help_text="How often it told.")
    triggered_at = InstantField(allow_null=True)
    created_at = InstantField()


class BalanceMonitorCollection(ApiView):
    """POST and GET /v1/balance-monitors"""

    scopes: ClassVar = {"POST": WRITE, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=CreateBalanceMonitor,
            response=BalanceMonitor,
            status=201,
            summary="Be told when an account's balance crosses a threshold",
            example=examples.accounts.CREATE_MONITOR,
        ),
        "GET": Shape(
            response=BalanceMonitor,
            page=True,
            summary="List balance monitors",
            query={
                "ledger_account": "Only monitors of this account.",
                "active": "true or false: only those that watch, or that were called off.",
                **CREATED_TOLD,
            },
            example=examples.accounts.LIST_MONITORS,
        ),
    }

    def post(self, request: Request) -> Response:
        caller = get_caller(request)
        body = CreateBalanceMonitor(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data

        monitor_id = operations.create_monitor(
            organization_id=caller.organization_id,
            terms=MonitorTerms(
                account_id=asked["ledger_account"],
                measure=MonitorMeasure(asked["measure"]),
                direction=MonitorDirection(asked["direction"]),
                threshold_minor=asked["threshold"],
                description=asked["description"],
            ),
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(_shown(caller.organization_id, monitor_id), status=201)

    def get(self, request: Request) -> Response:
        account = request.query_params.get("ledger_account")
        active = request.query_params.get("active")
        if active is not None and active not in _TRUTHS:
            raise ApiProblem("invalid_request", "active is true or false.")
        organization_id = get_caller(request).organization_id
        account_id = None if account is None else decode_id("la", account)
        created = read_window(request, *CREATED)
        rows = queries.monitors(
            organization_id=organization_id,
            account_id=find_account(organization_id, account_id),
            is_active=None if active is None else _TRUTHS[active],
            created=created,
        )
        names = ("ledger_account", "active", *CREATED)
        return list_page(
            request, rows, BalanceMonitor, filters=names, clock=clock_of(created_at=created)
        )


class BalanceMonitorResource(ApiView):
    """GET and DELETE /v1/balance-monitors/{id}"""

    scopes: ClassVar = {"GET": READ, "DELETE": WRITE}
    shapes: ClassVar = {
        "GET": Shape(
            response=BalanceMonitor,
            summary="Read a balance monitor",
            etag=True,
            example=examples.accounts.READ_MONITOR,
        ),
        "DELETE": Shape(
            response=BalanceMonitor,
            summary="Call a monitor off for good; its record stays",
            example=examples.accounts.DELETE_MONITOR,
        ),
    }

    def get(self, request: Request, monitor_id: str) -> Response | HttpResponse:
        check_query(request, ())
        return resource(
            request, _shown(get_caller(request).organization_id, decode_id("bm", monitor_id))
        )

    def delete(self, request: Request, monitor_id: str) -> Response:
        caller = get_caller(request)
        id_ = decode_id("bm", monitor_id)
        operations.deactivate_monitor(
            organization_id=caller.organization_id,
            monitor_id=id_,
            actor=caller.actor,
            now=clock.now(),
        )
        return Response(_shown(caller.organization_id, id_))


def _shown(organization_id: UUID, monitor_id: UUID) -> dict[str, object]:
    monitor = queries.get_monitor(organization_id=organization_id, monitor_id=monitor_id)
    shown: dict[str, object] = BalanceMonitor(monitor).data
    return shown
