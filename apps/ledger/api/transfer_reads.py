"""Reading transfers back: the entries that they made, and batches, in the shapes of their posts."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final
from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.pagination import check_query
from apps.core.api.views import ApiView, Shape, get_caller, resource
from apps.core.ids import decode_id
from apps.ledger import queries
from apps.ledger.api import examples, lean
from apps.ledger.api._searching import QUERY as JOURNAL_QUERY
from apps.ledger.api._searching import answer_found, read_ask, read_search
from apps.ledger.api.serializers import Transfer, TransferBatch
from apps.ledger.queries import EntryView, Found
from apps.ledger.rules import TRANSFER_KIND, BalanceAfter

READ: Final = "ledger:read"
QUERY: Final = {name: told for name, told in JOURNAL_QUERY.items() if name != "kind"}


class TransferResource(ApiView):
    """GET /v1/transfers/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=Transfer,
            summary="Read a transfer, with the balances that stand now",
            etag=True,
            example=examples.entries.READ_TRANSFER,
        )
    }

    def get(self, request: Request, transfer_id: str) -> Response | HttpResponse:
        check_query(request, ())
        organization_id = get_caller(request).organization_id
        entry = queries.get_transfer(
            organization_id=organization_id, entry_id=decode_id("je", transfer_id)
        )
        [shown] = _shown(organization_id, [entry])
        return resource(request, Transfer(shown).data)


class TransferBatchResource(ApiView):
    """GET /v1/transfers/batch/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=TransferBatch,
            summary="Read a batch as it was answered, with the balances that stand now",
            etag=True,
            example=examples.entries.READ_BATCH,
        )
    }

    def get(self, request: Request, batch_id: str) -> Response | HttpResponse:
        check_query(request, ())
        batch = queries.get_transfer_batch(
            organization_id=get_caller(request).organization_id,
            batch_id=decode_id("tb", batch_id),
            now=clock.now(),
        )
        return resource(request, lean.print_batch(batch))


def list_transfers(request: Request, *, organization_id: UUID) -> object:
    """
    Return the page of transfers that a request asks for.

    :raises ApiProblem: `invalid_request` or `invalid_cursor` (400)
    """
    search = read_search(request, kind=TRANSFER_KIND)
    found = queries.list_entries(search=search, ask=read_ask(request, search))
    rows = _shown(organization_id, found.rows)
    page: object = answer_found(request, Found(rows, found.older, found.newer), Transfer).data
    return page


def _shown(organization_id: UUID, entries: Sequence[EntryView]) -> list[dict[str, Any]]:
    """Return transfers as they are printed; their balances are of one read for all of them."""
    touched = {posting.account_id for entry in entries for posting in entry.postings}
    views = queries.balances_now(
        organization_id=organization_id, account_ids=touched, now=clock.now()
    )
    balances = {view.id: view for view in views}
    return [_transfer(entry, balances) for entry in entries]


def _transfer(entry: EntryView, balances: Mapping[UUID, BalanceAfter]) -> dict[str, Any]:
    debit, credit = entry.postings
    return {
        "id": entry.id,
        "debit_account": debit.account_id,
        "credit_account": credit.account_id,
        "amount": debit.amount_minor,
        "currency": debit.currency,
        "reference": entry.reference,
        "description": entry.description,
        "effective_at": entry.effective_at,
        "created_at": entry.recorded_at,
        "metadata": entry.metadata,
        # As a transfer answers them: the debited account's first.
        "balances": [balances[debit.account_id], balances[credit.account_id]],
        "dry_run": False,
    }
