"""Trial balance and balance sheet over the API. Amounts are minor units."""

from typing import Any, ClassVar, Final
from uuid import UUID

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.fields import CodeField, CurrencyField, IdField, InstantField, TextField
from apps.core.api.pagination import PAGING_NAMES, invalid_cursor
from apps.core.api.problems import ApiProblem
from apps.core.api.shapes import StrictSerializer
from apps.core.api.views import ApiView, Shape, get_caller
from apps.ledger import queries
from apps.ledger.api import examples
from apps.ledger.api.asked import (
    CLOCK_TOLD,
    CLOCKS,
    PAGING_TOLD,
    instant_of,
    page_ends,
    read_month,
    read_page,
    read_query,
)
from apps.ledger.api.serializers import BranchField, EffectiveField
from apps.ledger.queries import TICK

READ: Final = "ledger:read"


class AskTrialBalance(StrictSerializer):
    period = TextField(7, required=False)
    clock = CodeField(CLOCKS, required=False, default="effective")
    at = EffectiveField(required=False)
    currency = CurrencyField(required=False)
    code_prefix = BranchField()


class TrialBalanceLine(StrictSerializer):
    ledger_account = IdField("la", source="account_id")
    code = serializers.CharField()
    type = serializers.CharField()
    currency = serializers.CharField()
    opening = serializers.IntegerField(help_text="Debits less credits before the period.")
    debits = serializers.IntegerField(help_text="Of the period.")
    credits = serializers.IntegerField(help_text="Of the period, positive.")
    closing = serializers.IntegerField(help_text="Debits less credits after it.")


class TrialBalanceTotal(StrictSerializer):
    currency = serializers.CharField()
    opening = serializers.IntegerField()
    debits = serializers.IntegerField()
    credits = serializers.IntegerField()
    closing = serializers.IntegerField()
    balanced = serializers.BooleanField(
        source="is_balanced", help_text="Always true of the whole tree; of a branch it need not be."
    )


class TrialBalance(StrictSerializer):
    period = serializers.CharField(allow_null=True, help_text="The month, as 2026-06.")
    state = serializers.CharField(
        allow_null=True, help_text="The month's: closed is what was stored as it was closed."
    )
    at = InstantField(allow_null=True, help_text="Inclusive; without a period.")
    clock = serializers.CharField()
    data = TrialBalanceLine(many=True)  # type: ignore[assignment]  # as every list names its rows
    totals = TrialBalanceTotal(many=True, help_text="Over every line, not only this page's.")
    has_more = serializers.BooleanField()
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


class TrialBalanceResource(ApiView):
    """GET /v1/trial-balance"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=TrialBalance,
            summary="Read the trial balance of a month, or of everything up to an instant",
            query={
                "period": "A month such as 2026-06, in the organisation's zone.",
                "clock": CLOCK_TOLD + " A month is of business time.",
                "at": "Everything up to this instant, inclusive; now by default.",
                "currency": "Only this currency.",
                "code_prefix": "Only the account of this code and those below it.",
                **PAGING_TOLD,
            },
            example=examples.history.TRIAL_BALANCE,
        )
    }

    def get(self, request: Request) -> Response:
        asked = read_query(request, AskTrialBalance, more=[*PAGING_NAMES])
        if "period" in asked and "at" in asked:
            raise ApiProblem("invalid_request", "Give a period or at, not both.")
        if "period" in asked and asked["clock"] != "effective":
            raise ApiProblem("invalid_request", "A period is read by the effective clock.")
        ask = read_page(
            request,
            code_prefix=asked.get("code_prefix", ""),
            currency=asked.get("currency", ""),
        )
        page, of = _read(get_caller(request).organization_id, asked, ask)
        if page is None:
            raise invalid_cursor()
        shown = {
            **of,
            "clock": asked["clock"],
            "data": page.lines,
            "totals": page.totals,
            **page_ends(request, page),
        }
        return Response(TrialBalance(shown).data)


def _read(
    organization_id: UUID, asked: dict[str, Any], ask: queries.PageAsked
) -> tuple[queries.MovementPage | None, dict[str, object]]:
    """Return the page, and what it is of."""
    if "period" in asked:
        view, page = queries.page_of_period(
            organization_id=organization_id, month=read_month(asked["period"]), ask=ask
        )
        return page, {"period": view.name, "state": view.state, "at": None}
    at = asked.get("at") or clock.now()
    page = queries.page_until(
        organization_id=organization_id, until=at + TICK, ask=ask, clock=asked["clock"]
    )
    return page, {"period": None, "state": None, "at": at}


class AskBalanceSheet(StrictSerializer):
    period = TextField(7, required=False)
    at = EffectiveField(required=False)
    currency = CurrencyField(required=False)


class CurrencySheet(StrictSerializer):
    currency = serializers.CharField()
    assets = serializers.IntegerField()
    liabilities = serializers.IntegerField()
    equity = serializers.IntegerField()
    income = serializers.IntegerField()
    expenses = serializers.IntegerField()
    result = serializers.IntegerField(help_text="Income less expenses since the books began.")
    balanced = serializers.BooleanField(
        source="is_balanced", help_text="Assets are liabilities, equity and result together."
    )


class BalanceSheet(StrictSerializer):
    at = InstantField(help_text="Inclusive.")
    data = CurrencySheet(many=True)  # type: ignore[assignment]  # as every list names its rows


class BalanceSheetResource(ApiView):
    """GET /v1/balance-sheet"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=BalanceSheet,
            summary="Read the balance sheet of each currency as of an instant",
            query={
                "period": "As of the end of a month such as 2026-06.",
                "at": "The instant, inclusive; now by default.",
                "currency": "Only this currency.",
            },
            example=examples.history.BALANCE_SHEET,
        )
    }

    def get(self, request: Request) -> Response:
        asked = read_query(request, AskBalanceSheet)
        organization_id = get_caller(request).organization_id
        at = instant_of(organization_id, asked, now=clock.now())
        sheets = queries.balance_sheets(
            organization_id=organization_id, at=at, currency=asked.get("currency", "")
        )
        return Response(BalanceSheet({"at": at, "data": sheets}).data)
