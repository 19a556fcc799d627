"""Views of banking: translate in, one call, translate out."""

from typing import ClassVar
from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from apps.banking import operations, queries
from apps.banking.api import examples, serializers
from apps.banking.api.uploads import read_upload
from apps.banking.states import FileState, LineState, StatementState
from apps.core import clock
from apps.core.api.filters import (
    CREATED,
    CREATED_TOLD,
    SIFTED,
    Timed,
    equal,
    read_choice,
    read_days,
    read_window,
)
from apps.core.api.pagination import check_query, list_page
from apps.core.api.problems import ApiProblem
from apps.core.api.views import ApiView, Shape, get_caller, require_idempotency_key, resource
from apps.core.ids import decode_id


class BankFileCollection(ApiView):
    """POST and GET /v1/bank_files"""

    scopes: ClassVar = {"POST": "bank_files:write", "GET": "bank_files:read"}
    shapes: ClassVar = {
        "POST": Shape(
            request=serializers.UploadBankFile,
            response=serializers.BankFile,
            status=202,
            media_type="multipart/form-data",
            summary="Hand in a statement, notification or status report; its state says the rest",
            example=examples.HAND_IN_FILE,
        ),
        "GET": Shape(
            response=serializers.BankFile,
            page=True,
            summary="List bank files",
            query={"state": "Only files in this state." + SIFTED, **CREATED_TOLD},
            example=examples.LIST_FILES,
        ),
    }

    def post(self, request: Request) -> Response:
        caller = get_caller(request)
        upload = read_upload(request._request, name="file")  # noqa: SLF001 - the framework's own
        if upload.fields.keys() - {"bank_account"}:
            raise ApiProblem("invalid_request", "The form has a field that is not known.")
        account = upload.fields.get("bank_account")

        file = operations.receive_bank_file(
            organization_id=caller.organization_id,
            content=upload.content,
            name=upload.name,
            bank_account_id=None if account is None else decode_id("ba", account),
            idempotency_key=require_idempotency_key(request),
            actor=caller.actor,
            now=clock.now(),
        )

        return Response(serializers.BankFile(file).data, status=202)

    def get(self, request: Request) -> Response:
        files = queries.list_bank_files(organization_id=get_caller(request).organization_id)
        return list_page(
            request,
            files,
            serializers.BankFile,
            filters=("state", *CREATED),
            timed=Timed("created_at", read_window(request, *CREATED)),
            sieve=equal(state=read_choice(request, "state", FileState.values)),
        )


class BankFileResource(ApiView):
    """GET /v1/bank_files/{id}"""

    scopes: ClassVar = {"GET": "bank_files:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.BankFile,
            summary="Read what became of a bank file",
            etag=True,
            example=examples.READ_FILE,
        )
    }

    def get(self, request: Request, bank_file_id: str) -> Response | HttpResponse:
        check_query(request, ())
        file = queries.get_bank_file(
            organization_id=get_caller(request).organization_id,
            bank_file_id=decode_id("bf", bank_file_id),
        )
        return resource(request, serializers.BankFile(file).data)


class BankAccountCollection(ApiView):
    """GET /v1/bank_accounts"""

    scopes: ClassVar = {"GET": "bank_accounts:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.BankAccount,
            page=True,
            summary="List bank accounts",
            example=examples.LIST_ACCOUNTS,
        )
    }

    def get(self, request: Request) -> Response:
        accounts = queries.list_bank_accounts(organization_id=get_caller(request).organization_id)
        return list_page(request, accounts, serializers.BankAccount)


class BankStatementCollection(ApiView):
    """GET /v1/bank_statements"""

    scopes: ClassVar = {"GET": "bank_statements:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.BankStatement,
            page=True,
            summary="List statements and notifications",
            query={
                "bank_account": "Only those of this account." + SIFTED,
                "bank_file": "Only those of this file; sorted by the ids whatever the window.",
                "state": "Only those in this state." + SIFTED,
                **CREATED_TOLD,
            },
            example=examples.LIST_STATEMENTS,
        )
    }

    def get(self, request: Request) -> Response:
        organization_id = get_caller(request).organization_id
        file_id, file = None, request.query_params.get("bank_file")
        if file is not None:
            file_id = queries.get_bank_file(
                organization_id=organization_id, bank_file_id=decode_id("bf", file)
            ).id
        statements = queries.list_statements(organization_id=organization_id, bank_file_id=file_id)
        return list_page(
            request,
            statements,
            serializers.BankStatement,
            filters=("bank_account", "bank_file", "state", *CREATED),
            timed=Timed("created_at", read_window(request, *CREATED), leads=file_id is None),
            # An organization has few accounts, so one of them is met soon.
            sieve=equal(
                bank_account_id=_account_id(request),
                state=read_choice(request, "state", StatementState.values),
            ),
        )


class BankStatementResource(ApiView):
    """GET /v1/bank_statements/{id}"""

    scopes: ClassVar = {"GET": "bank_statements:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.BankStatement,
            summary="Read a statement",
            etag=True,
            example=examples.READ_STATEMENT,
        )
    }

    def get(self, request: Request, statement_id: str) -> Response | HttpResponse:
        check_query(request, ())
        statement = queries.get_statement(
            organization_id=get_caller(request).organization_id,
            statement_id=decode_id("bst", statement_id),
        )
        return resource(request, serializers.BankStatement(statement).data)


class BankLineCollection(ApiView):
    """GET /v1/bank_lines"""

    scopes: ClassVar = {"GET": "bank_lines:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.BankLine,
            page=True,
            summary="List bank lines and what became of them",
            query={
                "bank_account": "Only those of this account." + SIFTED,
                "statement": "Only those of this statement.",
                "state": "Only those in this state." + SIFTED,
                "booked_from": "Only those booked on this day or later." + SIFTED,
                "booked_before": "Only those booked before this day." + SIFTED,
            },
            example=examples.LIST_LINES,
        )
    }

    def get(self, request: Request) -> Response:
        organization_id = get_caller(request).organization_id
        statement_id, statement = None, request.query_params.get("statement")
        if statement is not None:
            statement_id = queries.get_statement(
                organization_id=organization_id, statement_id=decode_id("bst", statement)
            ).id
        first, behind = read_days(request, "booked_from", "booked_before")
        lines = queries.list_lines_with_status(
            organization_id=organization_id, statement_id=statement_id
        )
        return list_page(
            request,
            lines,
            serializers.BankLine,
            filters=("bank_account", "statement", "state", "booked_from", "booked_before"),
            sieve=equal(
                bank_account_id=_account_id(request),
                status_state=read_choice(request, "state", LineState.values),
                booking_date__gte=first,
                booking_date__lt=behind,
            ),
        )


class BankLineResource(ApiView):
    """GET /v1/bank_lines/{id}"""

    scopes: ClassVar = {"GET": "bank_lines:read"}
    shapes: ClassVar = {
        "GET": Shape(
            response=serializers.BankLine,
            summary="Read a bank line",
            etag=True,
            example=examples.READ_LINE,
        )
    }

    def get(self, request: Request, line_id: str) -> Response | HttpResponse:
        check_query(request, ())
        line = queries.get_line_with_status(
            organization_id=get_caller(request).organization_id,
            line_id=decode_id("bl", line_id),
        )
        return resource(request, serializers.BankLine(line).data)


def _account_id(request: Request) -> UUID | None:
    """Return the bank account that a list is narrowed to, if it is: one of the caller's own."""
    given = request.query_params.get("bank_account")
    if given is None:
        return None
    account = queries.get_bank_account(
        organization_id=get_caller(request).organization_id, bank_account_id=decode_id("ba", given)
    )
    return account.id
