"""Metadata of a journal entry over the API: given anew, and its history."""

from typing import ClassVar, Final

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.fields import InstantField, MetadataField
from apps.core.api.pagination import (
    PAGING_NAMES,
    answer_page,
    check_query,
    invalid_cursor,
    read_paging,
)
from apps.core.api.shapes import StrictSerializer
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key
from apps.core.ids import decode_id
from apps.ledger import operations, queries
from apps.ledger.api import examples
from apps.ledger.api.journal import JournalEntry

READ: Final = "ledger:read"
WRITE: Final = "ledger:write"


class AnnotateEntry(StrictSerializer):
    metadata = MetadataField(
        required=True, help_text="In place of all it has; an empty object takes all away."
    )


class EntryMetadata(StrictSerializer):
    number = serializers.IntegerField(help_text="0 is what the entry was posted with.")
    metadata = MetadataField()
    created_at = InstantField(source="recorded_at")


class EntryMetadataCollection(ApiView):
    """POST and GET /v1/journal-entries/{id}/metadata"""

    scopes: ClassVar = {"POST": WRITE, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=AnnotateEntry,
            response=JournalEntry,
            status=201,
            summary="Give a journal entry other metadata; the entry itself stays",
            example=examples.entries.ANNOTATE_ENTRY,
        ),
        "GET": Shape(
            response=EntryMetadata,
            page=True,
            summary="List what an entry's metadata was, and is",
            example=examples.entries.LIST_METADATA,
        ),
    }

    def post(self, request: Request, entry_id: str) -> Response:
        caller, id_ = get_caller(request), decode_id("je", entry_id)
        body = AnnotateEntry(data=request.data)
        body.is_valid(raise_exception=True)

        operations.annotate_entry(
            organization_id=caller.organization_id,
            entry_id=id_,
            metadata=body.validated_data["metadata"],
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        entry = queries.get_entry(organization_id=caller.organization_id, entry_id=id_)
        return Response(JournalEntry(entry).data, status=201)

    def get(self, request: Request, entry_id: str) -> Response:
        check_query(request, PAGING_NAMES)
        paging = read_paging(request)
        versions = queries.list_entry_metadata(
            organization_id=get_caller(request).organization_id,
            entry_id=decode_id("je", entry_id),
            limit=paging.limit + 1,
            before_number=_number(paging.after),
            after_number=_number(paging.before),
        )
        more = len(versions) > paging.limit
        if paging.before is not None:
            # One more than was asked for is a newer one.
            page = versions[1:] if more else versions
            older, newer = bool(page), more
        else:
            page = versions[: paging.limit]
            older, newer = more, paging.after is not None and bool(page)
        return answer_page(
            request,
            EntryMetadata(page, many=True).data,
            older=str(page[-1].number).encode() if older else None,
            newer=str(page[0].number).encode() if newer else None,
        )


def _number(place: bytes | None) -> int | None:
    if place is None:
        return None
    try:
        return int(place)
    except ValueError:
        raise invalid_cursor() from None
