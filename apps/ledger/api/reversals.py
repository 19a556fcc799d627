"""Undoing journal entries over the API: one, a set of them, and whether one can be undone."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.fields import CodeField, IdField, TextField, TruthField
from apps.core.api.pagination import check_query
from apps.core.api.problems import ApiProblem
from apps.core.api.shapes import StrictSerializer as Strict
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key
from apps.core.ids import decode_id
from apps.ledger import operations
from apps.ledger.api import examples
from apps.ledger.api.serializers import BATCH_MAX, DRY_RUN, TransferBalance
from apps.ledger.operations import ReversalResult
from apps.ledger.rules import UNDONE_POSTINGS_MAX

READ: Final = "ledger:read"
WRITE: Final = "transfers:write"
# As many as one batch posts: what was posted by one can be undone by one.
REVERSALS_MAX: Final = BATCH_MAX
_TIMES: Final = ("now", "original")


class _Terms(Strict):
    at = CodeField(
        _TIMES, required=False, default="now",
        help_text="The reversal's business time: now, or that of the entry.",
    )  # fmt: skip
    reason = TextField(500, required=False, allow_blank=True, default="")
    dry_run = TruthField(required=False, help_text=DRY_RUN)


class ReverseEntry(_Terms):
    pass


class ReverseEntries(_Terms):
    journal_entries = serializers.ListField(
        child=IdField("je"), min_length=1, max_length=REVERSALS_MAX,
        help_text="All are undone, or none; funds are checked once, by what it all comes to. They"
        f" have {UNDONE_POSTINGS_MAX:,} postings in all at most (`reversal_too_large`).",
    )  # fmt: skip


class Reversal(Strict):
    journal_entries = serializers.ListField(
        child=IdField("je"), help_text="The new entries, in the order asked; none in a dry run."
    )
    balances = TransferBalance(many=True, help_text="Right after; in a replay, now.")
    dry_run = serializers.BooleanField()


class Reversibility(Strict):
    reversible = serializers.BooleanField()
    code = serializers.CharField(allow_null=True, help_text="Why not: the refusal it would meet.")
    detail = serializers.CharField(allow_null=True)
    details = serializers.DictField(allow_null=True, help_text="Ids and numbers that help.")


class EntryReversal(ApiView):
    """POST and GET /v1/journal-entries/{id}/reversal"""

    scopes: ClassVar = {"POST": WRITE, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=ReverseEntry,
            response=Reversal,
            status=201,
            summary="Undo a journal entry by a new one",
            example=examples.entries.REVERSE_ENTRY,
        ),
        "GET": Shape(
            response=Reversibility,
            summary="Say whether a journal entry can be undone, and why not",
            query={"at": "now (default) or original: the business time it would have."},
            example=examples.entries.CAN_REVERSE,
        ),
    }

    def post(self, request: Request, entry_id: str) -> Response:
        body = ReverseEntry(data=request.data)
        body.is_valid(raise_exception=True)
        return _reverse(request, body.validated_data, [decode_id("je", entry_id)])

    def get(self, request: Request, entry_id: str) -> Response:
        check_query(request, ("at",))
        at = request.query_params.get("at", "now")
        if at not in _TIMES:
            raise ApiProblem("invalid_request", "at is now or original.")
        refusal = operations.can_reverse(
            organization_id=get_caller(request).organization_id,
            entry_id=decode_id("je", entry_id),
            at="original" if at == "original" else "now",
            now=clock.now(),
        )
        answer = {
            "reversible": refusal is None,
            "code": refusal.code if refusal else None,
            "detail": refusal.message if refusal else None,
            "details": refusal.details if refusal else None,
        }
        return Response(Reversibility(answer).data)


class EntryReversals(ApiView):
    """POST /v1/journal-entries/reversals"""

    scopes: ClassVar = {"POST": WRITE}
    shapes: ClassVar = {
        "POST": Shape(
            request=ReverseEntries,
            response=Reversal,
            status=201,
            summary="Undo up to 10,000 journal entries, all or none",
            example=examples.entries.REVERSE_ENTRIES,
        )
    }
    # One more than may be asked for are still read, and told that they are too many.
    body_nodes_max: ClassVar = 2 * REVERSALS_MAX

    def post(self, request: Request) -> Response:
        body = ReverseEntries(data=request.data)
        body.is_valid(raise_exception=True)
        return _reverse(request, body.validated_data, body.validated_data["journal_entries"])


def _reverse(request: Request, asked: Mapping[str, Any], entry_ids: list[Any]) -> Response:
    caller = get_caller(request)
    if asked.get("dry_run", False):
        found = operations.preview_reversal(
            organization_id=caller.organization_id,
            entry_ids=entry_ids,
            at=asked["at"],
            now=clock.now(),
        )
        return Response(printed(found, dry_run=True))
    result = operations.reverse_entries(
        organization_id=caller.organization_id,
        entry_ids=entry_ids,
        at=asked["at"],
        reason=asked["reason"],
        idempotency_key=require_idempotency_key(request),
        actor=caller.actor,
        now=clock.now(),
    )
    return Response(printed(result, dry_run=False), status=201)


def printed(result: ReversalResult, *, dry_run: bool) -> dict[str, Any]:
    """Return what a reversal left as the API says it."""
    shown = Reversal(
        {"journal_entries": result.entry_ids, "balances": result.balances, "dry_run": dry_run}
    )
    return dict(shown.data)
