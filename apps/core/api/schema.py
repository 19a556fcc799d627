"""
The OpenAPI 3.1 document: what each method reads, answers and needs, taken from the view itself.

A view says it in `shapes`; headers, problems, scopes and pages are added here, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, override

from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    inline_serializer,
)
from rest_framework import serializers


class ProblemError(serializers.Serializer[Any]):
    """One fault of a body, and where it is (RFC 6901)."""

    pointer = serializers.CharField()
    detail = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """A problem document (RFC 9457); further members name what helps, such as ids."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    request_id = serializers.CharField()
    errors = ProblemError(many=True, required=False)  # type: ignore[assignment]  # its name


# What a status means, whatever its code.
ERRORS: Final[dict[int, str]] = {
    400: "The request is malformed.",
    401: "There is no API key, or it is not valid.",
    403: "The API key lacks the scope, or may not be used from this address.",
    404: "There is no such resource, or it is not yours.",
    409: "The resource is not in a state for this, or the first request is still running.",
    411: "The body declares no length.",
    413: "The body is too large.",
    415: "The body is not JSON in UTF-8.",
    422: "Well formed, and a rule says no.",
    429: "Too many requests.",
    503: "We cannot answer just now.",
}
_WRITE_ERRORS: Final = (409, 422)
_BODY_ERRORS: Final = (411, 413, 415)
_VERBS: Final[Mapping[str, str]] = {"GET": "get", "PATCH": "change", "DELETE": "delete"}
_DRY_RUN: Final = "dry_run"
_DRY_STATUS: Final = 200
_DRY: Final = "A dry run: what would be answered. Nothing is done."
_DONE_OR_DRY: Final = "What was done, or in a dry run what would be."
_KEY: Final = "1 to 255 visible ASCII characters; the same key again is a retry."
_REPLAYED: Final = "true: the key was used before, and this is how that request ended."
_KEY_UNLESS_DRY: Final = " Required, but for a dry run, which needs none and uses none."
_PAGING: Final = (
    ("limit", int, "How many at most, 1 to 100."),
    ("after", str, "A cursor: go on to older ones."),
    ("before", str, "A cursor: go back to newer ones."),
)

# What is not a text among the names that views read from the URL by themselves.
_QUERY_TYPES: Final[Mapping[str, type]] = {
    "limit": int,
    "amount": int,
    "amount_min": int,
    "amount_max": int,
    "active": bool,
}

type SerializerClass = type[serializers.Serializer[Any]]


@dataclass(frozen=True, slots=True)
class Example:
    """One call as it could be made: the JSON that is sent, if any, and the one that is answered."""

    response: Mapping[str, Any]
    request: Mapping[str, Any] | None = None


def page_of(*rows: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of a list that has these rows and no others, for an example."""
    return {"data": list(rows), "has_more": False, "next": None, "previous": None}


@dataclass(frozen=True, slots=True)
class Shape:
    """
    What one method reads and answers.

    `page` makes the answer a list of `response`; `query` are the names it reads from the URL, each
    with its meaning. `etag`: it answers by `resource`, and 304 to who has the answer already. A
    request that knows `dry_run` is answered 200 then, and needs no Idempotency-Key.
    """

    request: SerializerClass | None = None
    response: SerializerClass | None = None
    status: int = 200
    page: bool = False
    summary: str = ""
    query: Mapping[str, str] | None = None
    etag: bool = False
    example: Example | None = None
    media_type: str = "application/json"

    @property
    def has_dry_run(self) -> bool:
        return self.request is not None and _DRY_RUN in self.request().fields


class ApiSchema(AutoSchema):
    """Reads `scopes` and `shapes` of an `ApiView`."""

    def _shape(self) -> Shape:
        shapes: Mapping[str, Shape] = getattr(self.view, "shapes", {})
        return shapes.get(self.method, Shape())

    @override
    def get_summary(self) -> str | None:
        return self._shape().summary or super().get_summary()

    @override
    def get_description(self) -> str:  # type: ignore[override]  # as its own base has it
        scope = getattr(self.view, "scopes", {}).get(self.method)
        told = f"Scope: `{scope}`." if scope else "Any API key."
        shape = self._shape()
        if shape.request is None or shape.media_type != "application/json":
            return told
        most_bytes, most_values = self.view.body_bytes_max, self.view.body_nodes_max  # type: ignore[attr-defined]  # every resource's
        return f"{told} A body has at most {most_bytes:,} bytes, and {most_values:,} values in it."

    @override
    def get_operation_id(self) -> str:
        steps = self.path.removeprefix("/v1/").replace("-", "_").split("/")
        shape = self._shape()
        verb = "list" if shape.page else _VERBS.get(self.method, "post")
        return "_".join([verb, *(step for step in steps if step and not step.startswith("{"))]) + (
            "_one" if "{" in steps[-1] else ""
        )

    @override
    def get_tags(self) -> list[str]:
        return [self.path.removeprefix("/v1/").split("/")[0]]

    @override
    def get_auth(self) -> list[dict[str, list[str]]]:
        scope = getattr(self.view, "scopes", {}).get(self.method)
        return [{"apiKey": [scope] if scope else []}]

    @override
    def map_parsers(self) -> list[str]:
        return [self._shape().media_type]

    @override
    def get_request_serializer(self) -> Any:
        return self._shape().request

    @override
    def get_response_serializers(self) -> Any:
        shape = self._shape()
        answered = _page(shape) if shape.page else shape.response
        answers: dict[Any, Any] = {shape.status: answered}
        if shape.has_dry_run:
            told = _DONE_OR_DRY if shape.status == _DRY_STATUS else _DRY
            answers[_DRY_STATUS] = OpenApiResponse(response=answered, description=told)
        if shape.etag:
            answers[304] = OpenApiResponse(description="It is what the client has already.")
        return answers | {
            (status, "application/problem+json"): OpenApiResponse(
                response=Problem, description=description
            )
            for status, description in ERRORS.items()
            if self._can_answer(status)
        }

    def _can_answer(self, status: int) -> bool:
        if status in _WRITE_ERRORS:
            return self.method != "GET"
        # Only a body can be too large, or of another type.
        return status not in _BODY_ERRORS or self._shape().request is not None

    @override
    def get_examples(self) -> list[OpenApiExample]:
        shape = self._shape()
        if shape.example is None:
            return []
        found = [
            OpenApiExample(
                "Answer",
                value=shape.example.response,
                response_only=True,
                status_codes=[str(shape.status)],
            )
        ]
        if shape.example.request is not None:
            found.append(OpenApiExample("Request", value=shape.example.request, request_only=True))
        return found

    @override
    def get_override_parameters(self) -> list[Any]:
        shape = self._shape()
        parameters = [
            OpenApiParameter(name, _QUERY_TYPES.get(name, str), description=meaning)
            for name, meaning in (shape.query or {}).items()
        ]
        if shape.page:
            parameters += [
                OpenApiParameter(name, kind, description=text) for name, kind, text in _PAGING
            ]
        return parameters + self._headers(shape)

    def _headers(self, shape: Shape) -> list[OpenApiParameter]:
        headers = []
        if shape.etag:
            headers += [
                _header("If-None-Match", "The ETag of an answer: if it is still so, 304 comes."),
                _header("ETag", "Changes with whatever the answer shows.", response=[200, 304]),
            ]
        if self.method == "POST":
            told = _KEY + _KEY_UNLESS_DRY if shape.has_dry_run else _KEY
            headers += [
                _header("Idempotency-Key", told, required=not shape.has_dry_run),
                _header("Idempotent-Replayed", _REPLAYED, response=[shape.status, *_WRITE_ERRORS]),
            ]
        return headers


def _header(
    name: str, description: str, *, required: bool = False, response: list[int] | None = None
) -> OpenApiParameter:
    return OpenApiParameter(
        name,
        str,
        OpenApiParameter.HEADER,
        required=required,
        description=description,
        response=[] if response is None else list(response),
    )


def _page(shape: Shape) -> Any:  # noqa: ANN401 - a serializer class made on the spot
    if shape.response is None:
        msg = "A page is a page of something."
        raise TypeError(msg)
    return inline_serializer(
        f"{shape.response.__name__}Page",
        {
            "data": shape.response(many=True),
            "has_more": serializers.BooleanField(),
            "next": serializers.CharField(allow_null=True),
            "previous": serializers.CharField(allow_null=True),
        },
    )


class KeyScheme(OpenApiAuthenticationExtension):
    """Names the API key as the one way in."""

    target_class = "apps.core.api.views.KeyAuthentication"
    name = "apiKey"

    @override
    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "kassa_live_… or kassa_test_…"}


class _FieldScheme(OpenApiSerializerFieldExtension):
    """Says of a field of ours what it says itself."""

    match_subclasses = True

    @override
    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        said: dict[str, Any] = self.target.openapi()
        return said


def _describe(name: str) -> None:
    # The library finds an extension by the class it names; one is made for each field of ours.
    type(f"{name}Scheme", (_FieldScheme,), {"target_class": f"apps.core.api.fields.{name}"})


for _name in (
    "AmountField",
    "CodeField",
    "CurrencyField",
    "DayField",
    "DecimalField",
    "IdField",
    "InstantField",
    "IntegerField",
    "MetadataField",
    "TextField",
    "TruthField",
):
    _describe(_name)
