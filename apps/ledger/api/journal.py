"""The journal over the API: entries and postings, found and read. Amounts are minor units."""

from typing import Any, ClassVar, Final, override
from uuid import UUID

from django.http import HttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.caller import require_scope
from apps.core.api.fields import (
    AMOUNT_MAX,
    CurrencyField,
    IdField,
    InstantField,
    IntegerField,
    MetadataField,
    TextField,
    TruthField,
)
from apps.core.api.pagination import check_query
from apps.core.api.shapes import StrictSerializer
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.core.ids import decode_id
from apps.ledger import operations, queries
from apps.ledger.api import examples
from apps.ledger.api._searching import QUERY, answer_found, read_ask, read_search
from apps.ledger.api.serializers import DRY_RUN, FORCE, FORCED, EffectiveField, TransferBalance
from apps.ledger.operations import EntryRequest, EntryResult
from apps.ledger.rules import Leg

READ: Final = "ledger:read"
TRANSFER: Final = "transfers:write"
# All legs of an entry stand in its event, which has a bound of its own.
LEGS_MIN: Final = 2
LEGS_MAX: Final = 100


class SignedAmountField(IntegerField):
    """An amount in minor units with its side as its sign, and never 0."""

    default_error_messages: ClassVar = {"zero": "An amount is not 0."}

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - the framework's
        super().__init__(least=-AMOUNT_MAX, most=AMOUNT_MAX, **kwargs)

    @override
    def to_internal_value(self, data: Any) -> int:
        amount_minor = super().to_internal_value(data)
        if not amount_minor:
            self.fail("zero")
        return amount_minor


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
    hold = IdField("ho", allow_null=True, help_text="What it captured, in whole or in part.")
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


class PostEntryPosting(StrictSerializer):
    ledger_account = IdField("la", source="account_id")
    amount = SignedAmountField(source="amount_minor", help_text="Debit > 0, credit < 0.")
    currency = CurrencyField()


class PostJournalEntry(StrictSerializer):
    postings = PostEntryPosting(
        many=True,
        min_length=LEGS_MIN,  # type: ignore[call-arg]  # the list's, which `many` makes of it
        max_length=LEGS_MAX,
        help_text="They sum to zero in each of their currencies, and name each account once.",
    )
    reference = TextField(255, required=False)
    description = TextField(500, required=False, allow_blank=True)
    effective_at = EffectiveField(required=False, help_text="Business time; now without it.")
    metadata = MetadataField()
    force = TruthField(required=False, help_text=FORCED)
    dry_run = TruthField(required=False, help_text=DRY_RUN)


class PostedJournalEntry(JournalEntry):
    id = IdField("je", allow_null=True, help_text="null in a dry run.")
    created_at = InstantField(source="recorded_at", allow_null=True, help_text="null in a dry run.")
    balances = TransferBalance(
        many=True, help_text="Of its accounts, in its order, right after it; in a replay, now."
    )
    dry_run = serializers.BooleanField()


class JournalEntryCollection(ApiView):
    """POST and GET /v1/journal-entries"""

    scopes: ClassVar = {"POST": TRANSFER, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=PostJournalEntry,
            response=PostedJournalEntry,
            status=201,
            summary="Post a journal entry over several ledger accounts",
            example=examples.entries.POST_ENTRY,
        ),
        "GET": Shape(
            response=JournalEntry,
            page=True,
            summary="Find journal entries, with their postings",
            query=QUERY,
            example=examples.entries.LIST_ENTRIES,
        ),
    }

    def post(self, request: Request) -> Response:
        caller = get_caller(request)
        body = PostJournalEntry(data=request.data)
        body.is_valid(raise_exception=True)
        asked = dict(body.validated_data)
        dry_run = asked.pop("dry_run", False)
        legs = tuple(Leg(**posting) for posting in asked.pop("postings"))
        entry = EntryRequest(legs=legs, **asked)
        if entry.force:
            require_scope(caller, FORCE)
        if dry_run:
            return Response(_dry(caller.organization_id, entry), status=200)

        result = operations.post_entry(
            organization_id=caller.organization_id,
            entry=entry,
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(_posted(caller.organization_id, result), status=201)

    def get(self, request: Request) -> Response:
        search = read_search(request)
        found = queries.list_entries(search=search, ask=read_ask(request, search))
        return answer_found(request, found, JournalEntry)


def _posted(
    organization_id: UUID, result: EntryResult, *, dry_run: bool = False
) -> dict[str, object]:
    entry = queries.get_entry(organization_id=organization_id, entry_id=result.entry_id)
    return {
        **JournalEntry(entry).data,
        "balances": TransferBalance(result.balances, many=True).data,
        "dry_run": dry_run,
    }


def _dry(organization_id: UUID, asked: EntryRequest) -> dict[str, object]:
    """Return an entry as it would stand; one whose reference stands already as it does."""
    outcome = operations.preview_entry(
        organization_id=organization_id, entry=asked, now=clock.now()
    )
    touched = [leg.account_id for leg in asked.legs]
    if not outcome.lines and outcome.entry_id is not None:
        now = queries.balances_now(organization_id=organization_id, account_ids=touched)
        return _posted(organization_id, EntryResult(outcome.entry_id, now), dry_run=True)
    codes = queries.codes_of(organization_id=organization_id, account_ids=touched)
    shown: dict[str, object] = PostedJournalEntry(
        {
            "id": None,
            "kind": "entry",
            "reference": asked.reference,
            "description": asked.description,
            "effective_at": outcome.effective_at,
            "recorded_at": None,
            "reverses": None,
            "reversed_by": None,
            "hold": None,
            "metadata": asked.metadata,
            "postings": [
                {
                    "account_id": line.account_id,
                    "code": codes[line.account_id],
                    "amount_minor": line.amount_minor,
                    "currency": line.currency,
                    "account_version": line.account_version,
                    "balance_after_minor": line.balance_after_minor,
                }
                for line in outcome.lines
            ],
            "balances": outcome.balances,
            "dry_run": True,
        }
    ).data
    return shown


class JournalEntryResource(ApiView):
    """GET /v1/journal-entries/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=JournalEntry,
            summary="Read a journal entry",
            etag=True,
            example=examples.entries.READ_ENTRY,
        )
    }

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
        "GET": Shape(
            response=Posting,
            page=True,
            summary="Find postings",
            query=QUERY,
            example=examples.entries.LIST_POSTINGS,
        )
    }

    def get(self, request: Request) -> Response:
        search = read_search(request)
        found = queries.list_postings(search=search, ask=read_ask(request, search))
        return answer_found(request, found, Posting)
