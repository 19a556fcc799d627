"""
The API for people: `/docs`, `/docs/errors` and `/docs/openapi.yaml` (api.md, Discovery).

What they show is docs/openapi.yaml, which a check holds to views and events, and the codes that
are declared; so they say nothing of their own that could be wrong. They need no key and no
database, and are the same for everybody: each is made once in a process.
"""

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, wraps
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import condition

from apps.core.api import problems
from apps.core.api.schema import ERRORS
from apps.core.errors import Refusal, refusal_classes
from config.reading import read_only

_CONTENT_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_CACHE: Final = "public, max-age=300"
# libyaml where PyYAML has it: half a megabyte takes Python's own parser seconds.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEPTH_MAX: Final = 8
# One page is made from another.
_making: Final = threading.RLock()
_CODE: Final = re.compile(r"`+([^`]+)`+")


class Field(NamedTuple):
    """One field of a body, or a parameter: `path` as `balances[].version`, `type` in words."""

    path: str
    type: str
    is_required: bool
    meaning: SafeString


class Answer(NamedTuple):
    """What is answered under one status."""

    status: str
    meaning: str


@dataclass(slots=True, kw_only=True)
class Call:
    """One operation, or one event that is sent."""

    id: str
    method: str
    path: str
    summary: str
    scope: str = ""
    parameters: list[Field] = field(default_factory=list)
    takes: list[Field] = field(default_factory=list)
    gives: list[Field] = field(default_factory=list)
    asked: str = ""
    answered: str = ""
    answers: list[Answer] = field(default_factory=list)


class Code(NamedTuple):
    """A code that a problem document may have."""

    code: str
    status: int
    title: str
    meaning: SafeString
    is_staffs: bool


class Page(NamedTuple):
    """A page as it is sent, to whom takes it so in a tenth of its bytes."""

    body: bytes
    packed: bytes
    etag: str


# Of one code; the document says of a status what all of its codes may mean.
_OF_STATUS: Final = ERRORS | {
    403: "It is known, and not permitted.",
    409: "The resource is not in a state for this.",
}
# What the interface itself refuses has no class whose docstring says what it is.
MEANINGS: Final[Mapping[str, str]] = {
    "invalid_request": "The request is malformed; `errors` names each field that is wrong.",
    "invalid_json": "The body is not JSON as RFC 8259 has it, or has a key twice.",
    "invalid_cursor": "The cursor is of another list, another search, or none at all.",
    "pan_not_allowed": "A card number stands where none may: it was not stored.",
    "idempotency_key_missing": "What is sent to change something needs an Idempotency-Key.",
    "idempotency_key_invalid": "The key is not 1 to 255 visible ASCII characters.",
    "unauthenticated": "There is no API key.",
    "invalid_api_key": "There is no such API key, or it was revoked, or its time is over.",
    "signature_invalid": "The signature is not that of this body and secret.",
    "timestamp_out_of_range": "What was signed is too old, or of the future.",
    "insufficient_scope": "The API key lacks the scope that this needs.",
    "address_not_allowed": "The API key may not be used from this address.",
    "route_not_found": "There is no such path.",
    "method_not_allowed": "The path does not have this method; `Allow` names those it has.",
    "request_timeout": "The body did not come in time: nothing was done.",
    "length_required": "The body declares no length.",
    "body_too_large": "The body is larger than this path takes.",
    "address_too_long": "The URL is longer than we read.",
    "unsupported_media_type": "The body is not JSON in UTF-8, or is compressed.",
    "rate_limited": "Too many requests of this key, or at once; `Retry-After` says how long.",
    "internal_error": "A fault of ours; what came of it is not known. Ask again under its key.",
    "unavailable": "We cannot answer just now. Ask again under the same key, after `Retry-After`.",
}

# Met on screens and by commands alone: no call of the API comes to what raises these.
BACK_OFFICE: Final = frozenset(
    {
        "admins_exist", "already_decided", "api_key_has_successor", "api_key_not_live",
        "approval_closed", "approval_expired", "approval_policy_refused", "approval_stale",
        "bank_account_exists", "cannot_approve_own", "capability_missing", "changed_meanwhile",
        "contact_address_taken", "contact_not_found", "correction_closed", "correction_not_found",
        "customer_not_frozen", "email_taken", "file_message_id_reused", "freeze_of_compliance",
        "import_under_way",
        "inbound_body_gone", "inbound_event_settled", "inbound_object_not_found",
        "inbound_type_unhandled", "invalid_bank_account", "journal_file_refused",
        "limit_raise_needs_two", "limit_refused",
        "malformed_api_key", "malformed_contact", "may_not_decide", "not_held",
        "opening_balance_not_found", "organization_not_empty", "own_role",
        "payout_batch_may_have_been_sent", "payout_batch_not_found", "payout_batch_not_ready",
        "reversal_asked_for_already", "role_pair_refused", "secret_malformed", "staff_not_found",
        "unknown_act", "unknown_provider", "unknown_time_zone",
        "unfreezing_asked_for_already", "weak_password",
    }
)  # fmt: skip


@read_only
def api(request: HttpRequest) -> HttpResponse:
    """Answer the page of all operations and events."""
    return _answer(request, _api_page(), "text/html; charset=utf-8")


@read_only
def errors(request: HttpRequest) -> HttpResponse:
    """Answer the page of all codes, where the `type` of a problem document points to."""
    return _answer(request, _errors_page(), "text/html; charset=utf-8")


@read_only
def document(request: HttpRequest) -> HttpResponse:
    """Answer the OpenAPI document itself."""
    return _answer(request, _raw(), "application/yaml")


def _answer(request: HttpRequest, page: Page, media_type: str) -> HttpResponse:
    packs = "gzip" in request.headers.get("Accept-Encoding", "")

    @condition(etag_func=lambda _request: f'"{page.etag}{"-gzip" if packs else ""}"')
    def give(_request: HttpRequest) -> HttpResponse:
        if packs:
            encoded = {"Content-Encoding": "gzip"}
            return HttpResponse(page.packed, content_type=media_type, headers=encoded)
        return HttpResponse(page.body, content_type=media_type)

    response: HttpResponse = give(request)
    response["Cache-Control"] = _CACHE
    response["Vary"] = "Accept-Encoding"
    response["Content-Security-Policy"] = _CONTENT_POLICY
    return response


def _page(body: bytes) -> Page:
    return Page(body, gzip.compress(body, mtime=0), sha256(body).hexdigest()[:32])


def _once(make: Callable[[], Page]) -> Callable[[], Page]:
    """Make a page once, and not in each of many threads that are asked for it at first."""
    made = cache(make)

    @wraps(make)
    def give() -> Page:
        with _making:
            return made()

    return give


@_once
def _raw() -> Page:
    return _page((Path(settings.BASE_DIR) / "docs" / "openapi.yaml").read_bytes())


@_once
def _api_page() -> Page:
    read: Mapping[str, Any] = yaml.load(_raw().body, Loader=_LOADER)  # noqa: S506  (a safe loader)
    groups: dict[str, list[Call]] = {}
    for path, methods in read["paths"].items():
        for method, operation in methods.items():
            call = _call(read, method.upper(), path, operation)
            groups.setdefault(operation["tags"][0], []).append(call)
    events = [_event(read, name, sent["post"]) for name, sent in read["webhooks"].items()]
    words = {"groups": groups, "events": events, "version": read["info"]["version"]}
    return _page(render_to_string("kassa/docs.html", words).encode())


@_once
def _errors_page() -> Page:
    return _page(render_to_string("kassa/docs_errors.html", {"codes": list_codes()}).encode())


def list_codes() -> list[Code]:
    """Return every code that is declared, by name, with the status that it has."""
    found = {
        code: _code(code, status, MEANINGS[code])
        for code, status in problems.STATUS_OF_CODE.items()
    }
    for code, kind in refusal_classes().items():
        if code not in found:
            status = problems.status_of(kind)
            # A class that says nothing of its own means what its status does.
            own = kind.__doc__ if kind.__module__ != Refusal.__module__ else None
            meaning = " ".join(own.split()) if own else _OF_STATUS[status]
            found[code] = _code(code, status, meaning)
    return [found[code] for code in sorted(found)]


def _code(code: str, status: int, meaning: str) -> Code:
    is_staffs = code in BACK_OFFICE
    return Code(code, status, HTTPStatus(status).phrase, _words(meaning), is_staffs)


def _call(read: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> Call:
    answers = operation["responses"]
    good: Mapping[str, Any] = next(
        (answer for status, answer in answers.items() if status.startswith("2")), {}
    )
    scopes = [scope for one in operation["security"] for scope in one.get("apiKey", ())]
    return Call(
        id=operation["operationId"],
        method=method,
        path=path,
        summary=operation["summary"],
        scope=", ".join(scopes),
        parameters=_parameters(read, operation),
        takes=list(_fields(read, _schema_of(operation.get("requestBody")))),
        gives=list(_fields(read, _schema_of(good))),
        asked=_example_of(operation.get("requestBody")),
        answered=_example_of(good),
        answers=[
            Answer(status, answer.get("description") or "Done.")
            for status, answer in answers.items()
        ],
    )


def _event(read: Mapping[str, Any], name: str, operation: Mapping[str, Any]) -> Call:
    schema = _schema_of(operation["requestBody"])
    [own] = [part for part in schema["allOf"] if "$ref" not in part]
    data = own["properties"]["data"]
    return Call(
        id=operation["operationId"],
        method="event",
        path=name,
        summary=operation["summary"],
        parameters=_parameters(read, operation),
        gives=list(_fields(read, data)),
        answered=_print(data["examples"][0]) if data.get("examples") else "",
    )


def _parameters(read: Mapping[str, Any], operation: Mapping[str, Any]) -> list[Field]:
    listed = [_resolved(read, one) for one in operation.get("parameters", ())]
    return [
        Field(
            f"{one['name']} ({one['in']})",
            _type(read, one["schema"]),
            one.get("required", False),
            _words(one.get("description", "")),
        )
        for one in listed
    ]


def _schema_of(body: Mapping[str, Any] | None) -> Mapping[str, Any]:
    for media in (body or {}).get("content", {}).values():
        found: Mapping[str, Any] = media.get("schema", {})
        return found
    return {}


def _example_of(body: Mapping[str, Any] | None) -> str:
    for media in (body or {}).get("content", {}).values():
        for example in media.get("examples", {}).values():
            return _print(example["value"])
    return ""


def _words(text: str) -> SafeString:
    """Return words as HTML: what stands in backticks is code."""
    escaped = _CODE.sub(r"<code>\1</code>", escape(text))
    return mark_safe(escaped)  # noqa: S308  (escaped, but for the tags put in)


def _print(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _resolved(read: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema with what it refers to, and with the one part that it is made of."""
    while "$ref" in schema:
        found: Any = read
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = {**found, **{name: told for name, told in schema.items() if name != "$ref"}}
    if len(schema.get("allOf", ())) == 1:
        schema = {**_resolved(read, schema["allOf"][0]), **schema}
    some = [part for part in schema.get("oneOf", ()) if part.get("type") != "null"]
    if "oneOf" in schema and len(some) == 1:
        # What may be null as well.
        inner = _resolved(read, some[0])
        outer = {name: told for name, told in schema.items() if name != "oneOf"}
        schema = {**inner, **outer, "type": [inner.get("type", "any"), "null"]}
    return schema


def _fields(
    read: Mapping[str, Any], schema: Mapping[str, Any], *, prefix: str = "", depth: int = 0
) -> Iterator[Field]:
    """Yield the fields of a body, those of what is in them behind each."""
    schema = _resolved(read, schema)
    if "items" in schema and depth < _DEPTH_MAX:
        yield from _fields(read, schema["items"], prefix=f"{prefix}[]", depth=depth + 1)
    required = set(schema.get("required", ()))
    for name, inner in schema.get("properties", {}).items():
        path = f"{prefix}.{name}" if prefix else name
        told = _resolved(read, inner)
        yield Field(path, _type(read, told), name in required, _words(told.get("description", "")))
        if depth < _DEPTH_MAX:
            yield from _fields(read, told, prefix=path, depth=depth + 1)


def _type(read: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Say what a value is: its type, the values it may have, and its bounds."""
    schema = _resolved(read, schema)
    if parts := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_type(read, part) for part in parts))
    types = schema.get("type", "any")
    words = " or ".join([types] if isinstance(types, str) else types)
    if "items" in schema:
        words = words.replace("array", f"array of {_type(read, schema['items'])}")
    if shape := schema.get("format"):
        words += f", {shape}"
    if values := [value for value in schema.get("enum", ()) if value is not None]:
        words += ": " + ", ".join(str(value) for value in values)
    bounds = [
        f"{name} {schema[key]:,}"
        for key, name in (
            ("minimum", "least"), ("maximum", "most"), ("minLength", "at least"),
            ("maxLength", "at most"), ("maxItems", "at most"),
        )
        if key in schema
    ]  # fmt: skip
    return f"{words} ({', '.join(bounds)})" if bounds else words
