"""
How a refusal or a fault becomes HTTP: RFC 9457, and the only place that knows statuses.

One code has one status. Nothing of ours leaks: no SQL, no driver text, no stack.
"""

import math
import random
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions

from apps.core import context
from apps.core.errors import (
    InvalidInput,
    NotFound,
    NotPermitted,
    NotYet,
    Refusal,
    RuleViolation,
    StateConflict,
    TooOften,
)
from apps.core.strict_json import JsonNotUtf8, JsonRefused, JsonTooLarge, escape
from apps.core.transactions import OVERDUE, has_given_up, sqlstate

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"

# What the interface itself refuses, before or round an operation.
STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "invalid_request": 400,
    "invalid_json": 400,
    "invalid_cursor": 400,
    "pan_not_allowed": 400,
    "idempotency_key_missing": 400,
    "idempotency_key_invalid": 400,
    "unauthenticated": 401,
    "invalid_api_key": 401,
    "signature_invalid": 401,
    "timestamp_out_of_range": 401,
    "insufficient_scope": 403,
    "address_not_allowed": 403,
    "route_not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "length_required": 411,
    "body_too_large": 413,
    "address_too_long": 414,
    "unsupported_media_type": 415,
    "rate_limited": 429,
    "internal_error": 500,
    "unavailable": 503,
}

STATUS_OF_REFUSAL: Final[Sequence[tuple[type[Refusal], int]]] = (
    (InvalidInput, 400),
    (NotPermitted, 403),
    (NotFound, 404),
    (StateConflict, 409),
    (RuleViolation, 422),
    (TooOften, 429),
)

# Postgres is full, read-only, restarting, made us wait too long, or waited too long for us
# (operations.md, section 3).
_AWAY: Final = frozenset(
    {"55P03", "57014", "53000", "53100", "53200", "53300", "53400", "25006"}
    | {"57P01", "57P02", "57P03", "25P04"}
    | OVERDUE
)
_RETRY_SECONDS: Final = (1, 10)
_OURS: Final = frozenset({"type", "title", "status", "detail", "code", "errors", "request_id"})


class ApiProblem(Exception):
    """Something the interface itself refuses; `code` is one of `STATUS_OF_CODE`."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        **details: object,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = STATUS_OF_CODE[code]
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.details = details


def respond(fault: Exception, request: HttpRequest) -> HttpResponse:
    """Return the problem document for whatever a view raised; a fault of ours is reported."""
    problem = _given_up(fault) or _problem(fault)
    if problem is None:
        log.error("request_failed", path=request.path, exc_info=fault)
        # Django's own signal: the error tracker listens to it, and so does the test client.
        got_request_exception.send(sender=type(request), request=request)
        problem = ApiProblem("internal_error", "Something went wrong on our side.")
    return _render(problem)


def passing(fault: Exception) -> ApiProblem | None:
    """Return the 503 for what passes by itself, a database that is away or busy, or nothing."""
    if problem := _given_up(fault):
        return problem
    return _from_database(fault) if isinstance(fault, DatabaseError | InterfaceError) else None


def _given_up(fault: Exception) -> ApiProblem | None:
    if not has_given_up(fault):
        return None
    log.warning("request_gave_up", fault=type(fault).__name__)
    return unavailable("Others keep changing the same; try again with the same idempotency key.")


def _problem(fault: Exception) -> "ApiProblem | _Refused | None":
    match fault:
        case ApiProblem():
            return fault
        case Refusal():
            return _Refused(fault)
        case JsonRefused():
            return _from_json(fault)
        case exceptions.APIException():
            return _from_rest_framework(fault)
        case DatabaseError() | InterfaceError():
            return _from_database(fault)
    return _from_django(fault)


def _from_django(fault: Exception) -> ApiProblem | None:
    match fault:
        case Http404():
            return ApiProblem("route_not_found", "There is nothing at this address.")
        case RequestDataTooBig():
            return ApiProblem("body_too_large", "The body is too large.")
        case SuspiciousOperation():
            return ApiProblem("invalid_request", "The request is malformed.")
    return None


class _Refused:
    """A refusal of an operation, in the same form as an `ApiProblem`."""

    def __init__(self, refusal: Refusal) -> None:
        self.code = refusal.code
        self.status = status_of(type(refusal))
        self.detail = refusal.message
        self.details = {k: v for k, v in refusal.details.items() if k not in _OURS}
        errors = refusal.details.get("errors")
        self.errors: Sequence[Any] = errors if isinstance(errors, list | tuple) else ()
        self.headers: Mapping[str, str] = {}
        if isinstance(refusal, NotYet):
            # Another try with the same key finds the first one's answer, or another state.
            self.headers = {"Retry-After": "1"}
        elif isinstance(refusal, TooOften):
            self.headers = {"Retry-After": str(refusal.details.get("retry_after", 1))}


def status_of(kind: type[Refusal]) -> int:
    """Return the HTTP status of a refusal's class."""
    return next((status for base, status in STATUS_OF_REFUSAL if issubclass(kind, base)), 422)


def _from_database(fault: DatabaseError | InterfaceError) -> ApiProblem | None:
    state = sqlstate(fault)
    # Without an SQLSTATE it is the way there: no connection, the pool is empty, or it was cut.
    lost = not state and isinstance(fault, OperationalError | InterfaceError)
    if not (lost or state in _AWAY or state.startswith("08")):
        return None
    log.warning("database_away", sqlstate=state, fault=type(fault.__cause__).__name__)
    return unavailable("We cannot answer just now; try again with the same idempotency key.")


def unavailable(detail: str) -> ApiProblem:
    """Return a 503 whose Retry-After spreads the second tries."""
    seconds = random.randint(*_RETRY_SECONDS)  # noqa: S311 - jitter, not a secret
    return ApiProblem("unavailable", detail, headers={"Retry-After": str(seconds)})


def limited(detail: str, seconds: float) -> ApiProblem:
    """Return a 429 whose Retry-After is so many seconds, one at least."""
    return ApiProblem(
        "rate_limited", detail, headers={"Retry-After": str(max(1, math.ceil(seconds)))}
    )


def _from_json(fault: JsonRefused) -> ApiProblem:
    if isinstance(fault, JsonTooLarge):
        return ApiProblem("body_too_large", fault.detail)
    if isinstance(fault, JsonNotUtf8):
        return ApiProblem("invalid_json", fault.detail)
    return ApiProblem(
        "invalid_json", fault.detail, errors=[{"pointer": fault.pointer, "detail": fault.detail}]
    )


_FROM_REST_FRAMEWORK: Final[Mapping[int, str]] = {
    400: "invalid_json",
    401: "unauthenticated",
    403: "insufficient_scope",
    404: "route_not_found",
    405: "method_not_allowed",
    415: "unsupported_media_type",
    429: "rate_limited",
}


def _from_rest_framework(fault: exceptions.APIException) -> ApiProblem | None:
    if isinstance(fault, exceptions.ValidationError):
        return _from_validation(fault)
    code = _FROM_REST_FRAMEWORK.get(fault.status_code)
    return ApiProblem(code, str(fault.detail)) if code else None


def _from_validation(fault: exceptions.ValidationError) -> ApiProblem:
    found = list(_errors(fault.detail, ""))
    errors = [{"pointer": pointer, "detail": str(error)} for pointer, error in found]
    if any(error.code == "pan_not_allowed" for _, error in found):
        return ApiProblem("pan_not_allowed", "Card numbers are not allowed here.", errors=errors)
    return ApiProblem("invalid_request", "The request is malformed.", errors=errors)


def _errors(detail: Any, pointer: str) -> Any:  # noqa: ANN401 - a tree of dicts, lists and details
    """Yield each error of a serializer with its JSON pointer."""
    if isinstance(detail, dict):
        for key, inner in detail.items():
            step = "" if key == "non_field_errors" else f"/{escape(str(key))}"
            yield from _errors(inner, pointer + step)
    elif isinstance(detail, list):
        for position, inner in enumerate(detail):
            # A list of texts belongs to one field; a list of dicts has one for each item.
            deeper = isinstance(inner, dict | list)
            yield from _errors(inner, f"{pointer}/{position}" if deeper else pointer)
    else:
        yield pointer, detail


def _render(problem: ApiProblem | _Refused) -> HttpResponse:
    document: dict[str, object] = {
        "type": f"/docs/errors#{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": context.current().request_id,
    }
    if problem.errors:
        document["errors"] = list(problem.errors)
    document |= problem.details
    response = HttpResponse(
        msgspec.json.encode(document, enc_hook=str),
        status=problem.status,
        content_type=MEDIA_TYPE,
    )
    for name, value in problem.headers.items():
        response[name] = value
    if problem.status == HTTPStatus.UNAUTHORIZED:
        response["WWW-Authenticate"] = 'Bearer realm="kassa"'
    return response
