"""Statements of account over the API. Amounts are minor units."""

from typing import ClassVar, Final

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.fields import CodeField, IdField, InstantField, TextField
from apps.core.api.pagination import PAGING_NAMES
from apps.core.api.shapes import StrictSerializer
from apps.core.api.views import ApiView, Shape, get_caller
from apps.core.ids import decode_id
from apps.ledger import queries
from apps.ledger.api import examples
from apps.ledger.api.asked import (
    CLOCK_TOLD,
    CLOCKS,
    PAGING_TOLD,
    read_lines,
    read_query,
    span_of,
    statement_ends,
    statement_mark,
    statement_starts,
)
from apps.ledger.api.serializers import EffectiveField

READ: Final = "ledger:read"


class AskStatement(StrictSerializer):
    clock = CodeField(CLOCKS, required=False, default="effective")
    period = TextField(7, required=False)
    since = EffectiveField(required=False)
    until = EffectiveField(required=False)
    kind = TextField(40, required=False)


class StatementLine(StrictSerializer):
    journal_entry = IdField("je", source="entry_id")
    kind = serializers.CharField()
    reference = serializers.CharField(allow_null=True)
    description = serializers.CharField()
    effective_at = InstantField()
    created_at = InstantField(source="recorded_at")
    amount = serializers.IntegerField(source="amount_minor", help_text="Debit > 0, credit < 0.")
    balance = serializers.IntegerField(
        source="balance_after_minor",
        help_text="After this line, in the statement's own order; on the normal side.",
    )
    version = serializers.IntegerField(source="account_version")


class Statement(StrictSerializer):
    ledger_account = IdField("la", source="account_id")
    code = serializers.CharField()
    type = serializers.CharField()
    currency = serializers.CharField()
    clock = serializers.CharField()
    since = InstantField(help_text="Inclusive.")
    until = InstantField(help_text="Exclusive.")
    opening_balance = serializers.IntegerField(
        source="opening_minor", help_text="Before the first line; on the normal side."
    )
    closing_balance = serializers.IntegerField(
        source="closing_minor", help_text="After the last line; on the normal side."
    )
    data = StatementLine(source="lines", many=True)  # type: ignore[assignment]  # a list's name
    has_more = serializers.BooleanField()
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


class StatementResource(ApiView):
    """GET /v1/ledger-accounts/{id}/statement"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=Statement,
            summary="Read an account's statement, oldest line first",
            query={
                "clock": CLOCK_TOLD,
                "period": "A month such as 2026-06, in the organisation's zone.",
                "since": "The first instant, inclusive; by default the start of the month.",
                "until": "The last instant, exclusive; now by default.",
                "kind": "Only lines of this kind; balances count the others. A page may then be"
                " short and still have a next one.",
                **PAGING_TOLD,
            },
            example=examples.accounts.STATEMENT,
        )
    }

    def get(self, request: Request, account_id: str) -> Response:
        organization_id = get_caller(request).organization_id
        asked = read_query(request, AskStatement, more=[*PAGING_NAMES])
        since, until = span_of(organization_id, asked, now=clock.now())
        starts = statement_starts(request, organization_id, asked, since=since)
        marks = {statement_mark(asked, since=start, until=until): start for start in starts}
        ask, mark = read_lines(request, marks=list(marks))
        since = marks[mark]
        found = queries.get_statement(
            organization_id=organization_id,
            account_id=decode_id("la", account_id),
            since=since,
            until=until,
            clock=asked["clock"],
            kind=asked.get("kind", ""),
            ask=ask,
        )
        shown = {name: getattr(found, name) for name in found.__slots__}
        return Response(Statement(shown | statement_ends(request, found, mark=mark)).data)
