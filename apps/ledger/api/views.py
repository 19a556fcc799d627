"""Views of the ledger: translate in, one call, translate out."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, cast, override
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.bodies import read_raw_json
from apps.core.api.caller import Caller, declare_scopes, require_scope
from apps.core.api.filters import (
    CREATED,
    CREATED_TOLD,
    METADATA_TOLD,
    clock_of,
    metadata_names,
    read_metadata,
    read_window,
)
from apps.core.api.gathering import GatheringApiView
from apps.core.api.pagination import PAGING_NAMES, check_query, list_page
from apps.core.api.problems import ApiProblem
from apps.core.api.views import (
    ApiView,
    LeanApiView,
    Shape,
    answer,
    get_caller,
    require_idempotency_key,
    resource,
)
from apps.core.ids import decode_id
from apps.ledger import operations, queries
from apps.ledger.api import examples, lean, serializers, transfer_reads
from apps.ledger.api.asked import read_query
from apps.ledger.operations import AccountChange, AccountSpec, TransferRequest, TransferResult
from apps.ledger.queries import AccountSearch
from apps.ledger.rules import AccountStatus

READ: Final = "ledger:read"
WRITE: Final = "ledger:write"
TRANSFER: Final = "transfers:write"
declare_scopes({"force": serializers.FORCE})


class LedgerAccountCollection(ApiView):
    """POST and GET /v1/ledger-accounts"""

    scopes: ClassVar = {"POST": WRITE, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.OpenLedgerAccount,
            response=serializers.LedgerAccount,
            status=201,
            summary="Open a ledger account",
            example=examples.accounts.OPEN_ACCOUNT,
        ),
        "GET": Shape(
            response=serializers.LedgerAccount,
            page=True,
            summary="List ledger accounts with their balances",
            query={
                "code": "Only this code.",
                "code_prefix": "Only the account of this code and those below it.",
                "type": "Only accounts of this type.",
                "currency": "Only accounts in this currency.",
                "status": "open, frozen or closed.",
                **CREATED_TOLD,
                **METADATA_TOLD,
            },
            example=examples.accounts.LIST_ACCOUNTS,
        ),
    }

    def post(self, request: Request) -> Response:
        caller = get_caller(request)
        body = serializers.OpenLedgerAccount(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data

        account_id = operations.open_client_account(
            organization_id=caller.organization_id,
            account=AccountSpec(
                asked["code"],
                asked["type"],
                asked["currency"],
                asked["min_available"],
                metadata=asked.get("metadata", {}),
            ),
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        view = queries.get_balance(
            organization_id=caller.organization_id, account_id=account_id, now=clock.now()
        )
        return Response(serializers.LedgerAccount(view).data, status=201)

    def get(self, request: Request) -> Response:
        organization_id = get_caller(request).organization_id
        names = [*CREATED, *metadata_names(request)]
        asked = read_query(request, serializers.AskLedgerAccounts, more=[*PAGING_NAMES, *names])
        created = read_window(request, *CREATED)
        rows = queries.accounts(
            organization_id=organization_id,
            search=AccountSearch(**asked, metadata=read_metadata(request), created=created),
        )

        def view(page: list[Any]) -> list[queries.BalanceView]:
            found = queries.list_balances(
                organization_id=organization_id, ids=[row.id for row in page], now=clock.now()
            )
            by_id = {balance.account_id: balance for balance in found}
            return [by_id[row.id] for row in page]

        return list_page(
            request,
            rows,
            serializers.ListedAccount,
            filters=(*serializers.AskLedgerAccounts().fields, *names),
            context={"view": view},
            clock=clock_of(created_at=created),
        )


class LedgerAccountResource(ApiView):
    """GET and POST /v1/ledger-accounts/{id}"""

    scopes: ClassVar = {"GET": READ, "POST": WRITE}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.LedgerAccountWithHolds,
            summary="Read an account's balance, and with it what is reserved",
            query={"expand[]": "holds: the open holds on its money, of the same instant."},
            etag=True,
            example=examples.accounts.READ_ACCOUNT,
        ),
        "POST": Shape(
            request=serializers.ChangeLedgerAccount,
            response=serializers.LedgerAccount,
            summary="Change an account's floor or metadata, freeze, open or close it",
            example=examples.accounts.CHANGE_ACCOUNT,
        ),
    }

    def get(self, request: Request, account_id: str) -> Response | HttpResponse:
        check_query(request, ("expand[]",))
        organization_id, id_ = get_caller(request).organization_id, decode_id("la", account_id)
        expand = request.query_params.get("expand[]")
        if expand is None:
            view = queries.get_balance(
                organization_id=organization_id, account_id=id_, now=clock.now()
            )
            return resource(request, serializers.LedgerAccount(view).data)
        if expand != "holds":
            raise ApiProblem("invalid_request", "expand[] is holds here.")
        view, holds, has_more = queries.balance_with_holds(
            organization_id=organization_id, account_id=id_, now=clock.now()
        )
        shown = serializers.LedgerAccount(view).data | {
            "holds": serializers.Hold(holds, many=True).data,
            "has_more_holds": has_more,
        }
        return resource(request, shown)

    def post(self, request: Request, account_id: str) -> Response:
        caller, id_ = get_caller(request), decode_id("la", account_id)
        body = serializers.ChangeLedgerAccount(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        if not asked.keys() & {"status", "min_available", "metadata"}:
            raise ApiProblem("invalid_request", "Give status, min_available or metadata.")

        operations.change_client_account(
            organization_id=caller.organization_id,
            account_id=id_,
            change=AccountChange(
                status=AccountStatus(asked["status"]) if "status" in asked else None,
                sets_floor="min_available" in asked,
                min_available_minor=asked.get("min_available"),
                metadata=asked.get("metadata"),
                reason=asked["reason"],
            ),
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        view = queries.get_balance(
            organization_id=caller.organization_id, account_id=id_, now=clock.now()
        )
        return Response(serializers.LedgerAccount(view).data)


class AskedTransfer(NamedTuple):
    """A transfer as one request asks for it, and where its result will be found: a dry run none."""

    organization_id: UUID
    transfer: TransferRequest
    ticket: operations.Ticket | None


class TransferCollection(GatheringApiView[AskedTransfer]):
    """POST and GET /v1/transfers"""

    scopes: ClassVar = {"POST": TRANSFER, "GET": READ}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.PostTransfer,
            response=serializers.Transfer,
            status=201,
            summary="Move money from one ledger account to another",
            example=examples.entries.POST_TRANSFER,
        ),
        "GET": Shape(
            response=serializers.Transfer,
            page=True,
            summary="Find transfers, with the balances that stand now",
            query=transfer_reads.QUERY,
            example=examples.entries.LIST_TRANSFERS,
        ),
    }

    @override
    def ask(self, request: HttpRequest, caller: Caller) -> AskedTransfer:
        transfer, dry_run = lean.read_transfer(read_raw_json(request))
        if transfer.force:
            require_scope(caller, serializers.FORCE)
        if dry_run:
            return AskedTransfer(caller.organization_id, transfer, ticket=None)
        ticket = operations.ask_transfer(
            transfer=transfer,
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )
        return AskedTransfer(caller.organization_id, transfer, ticket)

    @override
    def do_ahead(self, asked: Mapping[UUID, Sequence[AskedTransfer]]) -> None:
        alone = [(id_, one.ticket) for id_, [one, *more] in asked.items() if not more]
        operations.post_plain([(id_, ticket) for id_, ticket in alone if ticket is not None])

    @override
    def is_done(self, asked: AskedTransfer) -> bool:
        return asked.ticket is not None and asked.ticket.is_answered

    @override
    def do(self, organization_id: UUID, asked: Sequence[AskedTransfer]) -> None:
        tickets = [one.ticket for one in asked if one.ticket is not None]
        if tickets:
            operations.post_asked(organization_id=organization_id, asked=tickets)

    @override
    def show(self, asked: AskedTransfer) -> HttpResponse:
        if asked.ticket is None:
            return _preview(asked.organization_id, asked.transfer)
        result = operations.take_result(asked.ticket)
        shown = _shown(asked.organization_id, asked.transfer, result)
        return answer(lean.print_transfer(asked.transfer, shown), status=201)

    def get(self, request: HttpRequest, caller: Caller) -> HttpResponse:
        return answer(
            transfer_reads.list_transfers(Request(request), organization_id=caller.organization_id)
        )


def _preview(organization_id: UUID, transfer: TransferRequest) -> HttpResponse:
    [outcome] = operations.preview_transfers(
        organization_id=organization_id, transfers=[transfer], mode="atomic", now=clock.now()
    )
    result = TransferResult(cast("UUID", outcome.entry_id), outcome, recorded_at=None)
    shown = _shown(organization_id, transfer, result)
    made = shown["id"] if outcome.status == "replayed" else None
    return answer(lean.print_transfer(transfer, shown | {"id": made, "dry_run": True}))


def _shown(
    organization_id: UUID, asked: TransferRequest, result: TransferResult
) -> dict[str, object]:
    """Return what a transfer became: from its outcome, or in a replay from what stands."""
    outcome = result.outcome
    if outcome is not None and outcome.status == "posted":
        return {
            "id": result.entry_id,
            "amount": outcome.lines[0].amount_minor,
            "description": asked.description,
            "effective_at": outcome.effective_at,
            "created_at": result.recorded_at,
            "metadata": asked.metadata or {},
            "balances": [(balance.id, balance) for balance in outcome.balances],
            "dry_run": False,
        }
    entry = queries.get_entry(organization_id=organization_id, entry_id=result.entry_id)
    ids = [posting.account_id for posting in entry.postings]
    now_held = queries.list_balances(organization_id=organization_id, ids=ids)
    by_id = {view.account_id: view for view in now_held}
    return {
        "id": entry.id,
        "amount": entry.postings[0].amount_minor,
        "description": entry.description,
        "effective_at": entry.effective_at,
        "created_at": entry.recorded_at,
        "metadata": entry.metadata,
        "balances": [(id_, by_id[id_]) for id_ in ids],
        "dry_run": False,
    }


class TransferBatchCollection(LeanApiView):
    """POST /v1/transfers/batch"""

    scopes: ClassVar = {"POST": TRANSFER}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.PostTransfers,
            response=serializers.TransferBatch,
            status=201,
            summary="Move money by up to 10,000 transfers, all or none, or each for itself",
            example=examples.entries.POST_BATCH,
        )
    }
    body_bytes_max: ClassVar = 16 * 2**20
    body_nodes_max: ClassVar = 20 * serializers.BATCH_MAX

    def post(self, request: HttpRequest, caller: Caller) -> HttpResponse:
        transfers, mode, dry_run = lean.read_batch(
            read_raw_json(request, bytes_max=self.body_bytes_max),
            bytes_max=self.body_bytes_max,
            nodes_max=self.body_nodes_max,
        )
        if any(transfer.force for transfer in transfers):
            require_scope(caller, serializers.FORCE)
        if dry_run:
            preview = operations.preview_batch(
                organization_id=caller.organization_id,
                transfers=transfers,
                mode=mode,
                now=clock.now(),
            )
            return answer(lean.print_batch(preview, dry_run=True))

        result = operations.post_transfers(
            organization_id=caller.organization_id,
            transfers=transfers,
            mode=mode,
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return answer(lean.print_batch(result), status=201)
