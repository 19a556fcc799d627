"""Reading a transfer back: the journal entry that it made, in the transfer's own shape."""

from typing import ClassVar, Final

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.pagination import check_query
from apps.core.api.views import ApiView, Shape, get_caller, resource
from apps.core.ids import decode_id
from apps.ledger import queries
from apps.ledger.api import examples
from apps.ledger.api.serializers import Transfer

READ: Final = "ledger:read"


class TransferResource(ApiView):
    """GET /v1/transfers/{id}"""

    scopes: ClassVar = {"GET": READ}
    shapes: ClassVar = {
        "GET": Shape(
            response=Transfer,
            summary="Read a transfer, with the balances that stand now",
            etag=True,
            example=examples.READ_TRANSFER,
        )
    }

    def get(self, request: Request, transfer_id: str) -> Response | HttpResponse:
        check_query(request, ())
        organization_id = get_caller(request).organization_id
        entry = queries.get_transfer(
            organization_id=organization_id, entry_id=decode_id("je", transfer_id)
        )
        debit, credit = entry.postings
        balances = queries.list_balances(
            organization_id=organization_id, ids=[debit.account_id, credit.account_id]
        )
        shown = {
            "id": entry.id,
            "debit_account": debit.account_id,
            "credit_account": credit.account_id,
            "amount": debit.amount_minor,
            "currency": debit.currency,
            "reference": entry.reference,
            "description": entry.description,
            "effective_at": entry.effective_at,
            "metadata": entry.metadata,
            "balances": [
                {
                    "id": view.account_id,
                    "version": view.version,
                    "posted": view.posted,
                    "available": view.available,
                }
                # As a transfer answers them: the debited account's first.
                for view in sorted(balances, key=lambda view: view.account_id != debit.account_id)
            ],
            "dry_run": False,
        }
        return resource(request, Transfer(shown).data)
