"""Balances as of an instant over the API. Amounts are minor units."""

from typing import ClassVar, Final

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.fields import CodeField, CurrencyField, IdField, InstantField
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
    find_account,
    page_ends,
    read_page,
    read_query,
)
from apps.ledger.api.serializers import BranchField, EffectiveField
from apps.ledger.rules import AccountType

READ: Final = "ledger:read"


class AskBalances(StrictSerializer):
    ledger_account = IdField("la", required=False)
    code_prefix = BranchField()
    type = CodeField([kind.value for kind in AccountType], required=False)
    currency = CurrencyField(required=False)
    clock = CodeField(CLOCKS, required=False, default="effective")
    at = EffectiveField(required=False)


class BalanceAt(StrictSerializer):
    ledger_account = IdField("la", source="account_id")
    code = serializers.CharField()
    type = serializers.CharField()
    currency = serializers.CharField()
    posted = serializers.IntegerField(help_text="On the account's normal side.")


class BalanceTotal(StrictSerializer):
    type = serializers.CharField()
    currency = serializers.CharField()
    posted = serializers.IntegerField(help_text="On the normal side of accounts of this type.")


class Balances(StrictSerializer):
    at = InstantField(help_text="Inclusive.")
    clock = serializers.CharField()
    data = BalanceAt(many=True)  # type: ignore[assignment]  # as every list names its rows
    totals = BalanceTotal(many=True, help_text="Over every line, not only this page's.")
    has_more = serializers.BooleanField()
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


class BalanceCollection(ApiView):
    """GET /v1/balances"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=Balances,
            summary="Read balances as of an instant, of one account or a branch of the tree",
            query={
                "ledger_account": "Only this account.",
                "code_prefix": "Only the account of this code and those below it.",
                "type": "Only accounts of this type.",
                "currency": "Only accounts in this currency.",
                "clock": CLOCK_TOLD,
                "at": "The instant, inclusive; now by default.",
                **PAGING_TOLD,
            },
            example=examples.history.BALANCES,
        )
    }

    def get(self, request: Request) -> Response:
        asked = read_query(request, AskBalances, more=[*PAGING_NAMES])
        if "ledger_account" in asked and "code_prefix" in asked:
            raise ApiProblem("invalid_request", "Give ledger_account or code_prefix, not both.")
        at = asked.get("at") or clock.now()
        organization_id = get_caller(request).organization_id
        page = queries.page_of_balances_at(
            organization_id=organization_id,
            at=at,
            clock=asked["clock"],
            ask=read_page(
                request,
                code_prefix=asked.get("code_prefix", ""),
                currency=asked.get("currency", ""),
            ),
            account_id=find_account(organization_id, asked.get("ledger_account")),
            account_type=asked.get("type", ""),
        )
        if page is None:
            raise invalid_cursor()
        shown = {
            "at": at,
            "clock": asked["clock"],
            "data": page.lines,
            "totals": page.totals,
            **page_ends(request, page),
        }
        return Response(Balances(shown).data)
