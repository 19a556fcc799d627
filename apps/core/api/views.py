"""
The bases of every API view: `ApiView`, and `LeanApiView` for the hottest.

All authenticate, check the scope and answer every refusal as a problem document. A method without
a declared scope does not exist.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, cast, override

import msgspec
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.core import strict_json
from apps.core.api import limits, places, problems
from apps.core.api.bodies import read_json
from apps.core.api.caller import (
    Caller,
    authenticate,
    declare_scopes,
    get_caller,
    require_scope,
)
from apps.core.api.problems import ApiProblem
from apps.core.api.schema import ApiSchema, Example, Shape, page_of

__all__ = [
    "ApiView",
    "Example",
    "LeanApiView",
    "Shape",
    "answer",
    "get_caller",
    "page_of",
    "read_json",
    "require_idempotency_key",
    "resource",
]

_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]{1,255}")
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <API key>`, and nothing else."""

    @override
    def authenticate(self, request: Request) -> tuple[Any, Any]:
        caller = authenticate(request._request)  # noqa: SLF001 - the request under the wrapper
        return caller, caller


class ScopePermission(BasePermission):
    """A method that declares no scope is denied; a method that is not there is 405 later."""

    @override
    def has_permission(self, request: Request, view: APIView) -> bool:
        method = "GET" if request.method == "HEAD" else request.method or ""
        if method.lower() not in view.http_method_names or not hasattr(view, method.lower()):
            return True
        scopes: Mapping[str, str | None] = getattr(view, "scopes", {})
        if method not in scopes:
            return False
        caller = get_caller(request)
        require_scope(caller, scopes[method])
        limits.admit(request._request, caller)  # noqa: SLF001 - the request under the wrapper
        return True


class JsonParser(BaseParser):
    """Names the one media type; the reading is `ApiRequest`'s."""

    media_type = "application/json"


class JsonRenderer(BaseRenderer):
    """JSON in UTF-8, whatever the client says it accepts."""

    media_type = "application/json"
    format = "json"
    charset = None

    @override
    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else render(data)


def render(data: object) -> bytes:
    """Return the JSON of an answer."""
    return msgspec.json.encode(data, enc_hook=str)


class _JsonOnly(BaseContentNegotiation):
    @override
    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    @override
    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> Any:
        return renderers[0], renderers[0].media_type


class ApiRequest(Request):
    """A request whose `data` is read by our own strict parser."""

    bytes_max: int = strict_json.BYTES_MAX
    nodes_max: int = strict_json.NODES_MAX

    @property
    @override
    def data(self) -> Any:
        """The JSON of the body, read once; an object of a method without a body is empty."""
        if not hasattr(self, "_read"):
            has_body = self._request.method in {"POST", "PUT", "PATCH", "DELETE"}
            self._read: Any = (
                read_json(self._request, bytes_max=self.bytes_max, nodes_max=self.nodes_max)
                if has_body
                else {}
            )
        return self._read


class ApiView(APIView):
    """
    A resource of the API: one method per HTTP method, each with a scope.

    `scopes` maps a method to its scope (None: any key). `shapes` says, for the OpenAPI document,
    what each method reads and answers.
    """

    scopes: ClassVar[dict[str, str | None]] = {}
    shapes: ClassVar[Mapping[str, Shape]] = {}
    body_bytes_max: ClassVar[int] = strict_json.BYTES_MAX
    body_nodes_max: ClassVar[int] = strict_json.NODES_MAX

    authentication_classes = (KeyAuthentication,)
    permission_classes = (ScopePermission,)
    parser_classes = (JsonParser,)
    renderer_classes = (JsonRenderer,)
    throttle_classes = ()
    content_negotiation_class = _JsonOnly
    # OPTIONS describes routes to anybody, and TRACE echoes headers: neither is spoken here.
    http_method_names = [method.lower() for method in (*_METHODS, "HEAD")]
    schema = ApiSchema()

    @override
    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declare_scopes(cls.scopes)

    @override
    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        wrapped = ApiRequest(
            request,
            authenticators=self.get_authenticators(),
            negotiator=self.get_content_negotiator(),
            parser_context=self.get_parser_context(request),
        )
        wrapped.bytes_max, wrapped.nodes_max = self.body_bytes_max, self.body_nodes_max
        return wrapped

    @override
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        _require_plain_act(request._request)  # noqa: SLF001 - the request under the wrapper

    @override
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return cast("HttpResponse", super().dispatch(request, *args, **kwargs))
        finally:
            places.release(request)

    @override
    def handle_exception(self, exc: Exception) -> Any:
        response = problems.respond(exc, self.request._request)  # noqa: SLF001 - see above
        if response.status_code == 405:  # noqa: PLR2004 - method not allowed
            response["Allow"] = ", ".join(self.allowed_methods)
        return response


class LeanApiView(ApiView):
    """
    What `ApiView` promises, without the framework's request: for the hottest routes.

    A handler is `post(self, request, caller)` over Django's own request, reads its body with
    `read_json` and answers with `answer`.
    """

    @override
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            caller = self._admit(request)
            handler: Callable[..., HttpResponse] = getattr(self, _method(request).lower())
            return handler(request, caller, *args, **kwargs)
        # The boundary: whatever it was is answered as a problem, and a fault is reported.
        except Exception as fault:  # noqa: BLE001
            return problems.respond(fault, request)
        finally:
            places.release(request)

    def _admit(self, request: HttpRequest) -> Caller:
        caller = self._caller(request)
        limits.admit(request, caller)
        _require_plain_act(request)
        return caller

    def _caller(self, request: HttpRequest) -> Caller:
        """Return who asks, if they may ask for this."""
        caller = authenticate(request)
        method = _method(request)
        if method not in self.scopes:
            raise ApiProblem(
                "method_not_allowed",
                "This resource does not have that method.",
                headers={"Allow": ", ".join(self._spoken())},
            )
        require_scope(caller, self.scopes[method])
        return caller

    def _spoken(self) -> list[str]:
        """Return the methods that are answered: what is read by GET is asked about by HEAD."""
        spoken = {*self.scopes, *(("HEAD",) if "GET" in self.scopes else ())}
        return [name for name in map(str.upper, self.http_method_names) if name in spoken]


def _method(request: HttpRequest) -> str:
    return "GET" if request.method == "HEAD" else request.method or ""


def _require_plain_act(request: HttpRequest) -> None:
    """
    Refuse what an act would be told where nobody reads it: a dry run asked for so would be real.

    :raises ApiProblem: `invalid_request` (400)
    """
    if _method(request) == "GET":
        return
    if request.META.get("QUERY_STRING"):
        raise ApiProblem("invalid_request", "An act has no query: its body says what it is.")
    if request.method == "DELETE" and _has_body(request):
        raise ApiProblem("invalid_request", "DELETE has no body.")


def _has_body(request: HttpRequest) -> bool:
    # Clients that write JSON throughout send `{}`, and nothing shorter has a name in it.
    return request.META.get("CONTENT_LENGTH") not in {None, "", "0", "2"}


def answer(data: object, *, status: int = 200) -> HttpResponse:
    """Return a plain JSON response, for a lean view."""
    return HttpResponse(render(data), status=status, content_type="application/json")


def require_idempotency_key(request: Request | HttpRequest) -> str:
    """
    Return the Idempotency-Key of a request.

    :raises ApiProblem: `idempotency_key_missing` or `idempotency_key_invalid` (400)
    """
    key = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if not key:
        raise ApiProblem("idempotency_key_missing", "Send an Idempotency-Key header.")
    if not _VISIBLE_ASCII.fullmatch(key):
        raise ApiProblem(
            "idempotency_key_invalid", "An Idempotency-Key is 1 to 255 visible ASCII characters."
        )
    return str(key)


def resource(request: Request, data: Mapping[str, Any]) -> Response | HttpResponse:
    """
    Answer one resource, or 304 if the client has it already (`If-None-Match`).

    The ETag is a hash of the answer itself, so it changes with whatever the client can see.
    """
    tag = f'"{hashlib.sha256(render(data)).hexdigest()[:32]}"'
    asked = request.META.get("HTTP_IF_NONE_MATCH", "")
    known = {candidate.strip().removeprefix("W/") for candidate in asked.split(",")}
    if tag in known or "*" in known:
        response: Response | HttpResponse = HttpResponse(status=304)
        # A cache takes what a 304 says for what it has stored, and that is JSON.
        del response["Content-Type"]
    else:
        response = Response(data)
    response["ETag"] = tag
    return response


@csrf_exempt
def route_not_found(request: HttpRequest, **_: object) -> HttpResponse:
    """Answer 404 as a problem; the last route of the API, whatever the method."""
    problem = ApiProblem("route_not_found", "There is nothing at this address.")
    return problems.respond(problem, request)
