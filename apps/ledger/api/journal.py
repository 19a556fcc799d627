"""The journal over the API: entries and postings, found and read. Amounts are minor units."""

from typing import ClassVar, Final

from django.http import HttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.fields import IdField, InstantField, MetadataField, StrictSerializer
from apps.core.api.pagination import check_query
from apps.core.api.views import ApiView, Shape, get_caller, resource
from apps.core.ids import decode_id
from apps.ledger import queries
from apps.ledger.api._searching import QUERY, answer_found, read_ask, read_search

READ: Final = "ledger:read"


class EntryPosting(StrictSerializer):
    ledger_account = IdField("la", source="account_id")
    code = serializers.CharField()
    amount = serializers.IntegerField(source="amount_minor", help_text="Debit > 0, credit < 0.")
    currency = serializers.CharField()
    version = serializers.IntegerField(source="account_version")
    balance_after = serializers.IntegerField(source="balance_after_minor")


class JournalEntry(StrictSerializer):
    id = IdField("je")
    kind = serializers.CharField()
    reference = serializers.CharField(allow_null=True)
    description = serializers.CharField()
    effective_at = InstantField()
    created_at = InstantField(source="recorded_at")
    reverses = IdField("je", allow_null=True)
    reversed_by = IdField("je", allow_null=True)
    metadata = MetadataField(help_text="As it is now.")
    postings = EntryPosting(many=True)


class Posting(EntryPosting):
    journal_entry = IdField("je", source="entry_id")
    number = serializers.IntegerField(help_text="1, 2, 3 ... within its entry.")
    kind = serializers.CharField()
    reference = serializers.CharField(allow_null=True)
    description = serializers.CharField()
    effective_at = InstantField()
    created_at = InstantField(source="recorded_at")


class JournalEntryCollection(ApiView):
    """GET /v1/journal-entries"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=JournalEntry,
            page=True,
            summary="Find journal entries, with their postings",
            query=QUERY,
        )
    }

    def get(self, request: Request) -> Response:
        search = read_search(request)
        found = queries.list_entries(search=search, ask=read_ask(request, search))
        return answer_found(request, found, JournalEntry)


class JournalEntryResource(ApiView):
    """GET /v1/journal-entries/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {"GET": Shape(response=JournalEntry, summary="Read a journal entry")}

    def get(self, request: Request, entry_id: str) -> Response | HttpResponse:
        check_query(request, ())
        entry = queries.get_entry(
            organization_id=get_caller(request).organization_id,
            entry_id=decode_id("je", entry_id),
        )
        return resource(request, JournalEntry(entry).data)


class PostingCollection(ApiView):
    """GET /v1/postings"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(response=Posting, page=True, summary="Find postings", query=QUERY)
    }

    def get(self, request: Request) -> Response:
        search = read_search(request)
        found = queries.list_postings(search=search, ask=read_ask(request, search))
        return answer_found(request, found, Posting)
