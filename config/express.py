"""
The express lane: the hottest routes, answered without Django's handler and middleware.

Those cost more than all else a lean view does. The lane takes what is plainly a request for one of
its routes and hands everything else, a strange host or an address that wants TLS included, to
Django untouched. Its answers are the same, header by header, and so is its log line: a test sends
every kind of request both ways (tests/config/test_express.py).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.wsgi import WSGIRequest
from django.db import close_old_connections
from django.http import HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils.log import log_response

from apps.core.api.headers import add_headers
from apps.core.api.views import LeanApiView
from apps.ledger.api.views import TransferBatchCollection, TransferCollection
from config.logging import log_request
from config.middleware import API_CONTENT_POLICY, begin_request

type StartResponse = Callable[[str, list[tuple[str, str]]], object]
# The second argument is `StartResponse`; each framework has a type of its own for it.
type Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

# The routes as the URL configuration has them, which is also how the log names them.
ROUTES: Final[Mapping[str, type[LeanApiView]]] = {
    "v1/transfers": TransferCollection,
    "v1/transfers/batch": TransferBatchCollection,
}
_HOSTS_MAX: Final = 100
_BAD_REQUEST: Final = 400


class ExpressLane:
    """A WSGI application that answers POSTs to its routes, and asks `django` about all others."""

    def __init__(self, django: Application, routes: Mapping[str, type[LeanApiView]]) -> None:
        self._django = django
        self._routes = {f"/{route}": (route, view) for route, view in routes.items()}
        self._hosts: set[str] = set()
        self._fixed: dict[bool, list[tuple[str, str]]] = {}

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        found = self._routes.get(environ["PATH_INFO"])
        if found is None or environ["REQUEST_METHOD"] != "POST" or environ["QUERY_STRING"]:
            return self._django(environ, start_response)
        request = WSGIRequest(environ)
        if not self._is_plain(request):
            return self._django(environ, start_response)
        route, view = found
        try:
            return self._answer(request, start_response, route, view)
        finally:
            # What the signal at a request's end does for Django.
            close_old_connections()

    def _is_plain(self, request: WSGIRequest) -> bool:
        """Say whether Django's middleware would let the request pass to its view."""
        if request.META.get("SCRIPT_NAME") or "HTTP_X_FORWARDED_HOST" in request.META:
            return False
        if settings.SECURE_SSL_REDIRECT and not request.is_secure():
            return False
        host = request.META.get("HTTP_HOST", "")
        return host in self._hosts or self._is_allowed(request, host)

    def _is_allowed(self, request: WSGIRequest, host: str) -> bool:
        try:
            request.get_host()
        except DisallowedHost:
            return False
        # Without a header it was the server's name that is allowed, not an empty one.
        if host:
            # A pattern of hosts allows as many as a stranger can think of.
            if len(self._hosts) >= _HOSTS_MAX:
                self._hosts.clear()
            self._hosts.add(host)
        return True

    def _answer(
        self,
        request: WSGIRequest,
        start_response: StartResponse,
        route: str,
        view: type[LeanApiView],
    ) -> list[bytes]:
        begun = begin_request(request.META)
        response = view().dispatch(request)
        add_headers(request, response)
        content = response.content
        headers = [
            *response.items(),
            *self._fixed_headers(request),
            ("Content-Length", str(len(content))),
            ("Request-Id", begun.request_id),
        ]
        status = response.status_code
        if status >= _BAD_REQUEST:
            log_response(
                "%s: %s", response.reason_phrase, request.path, response=response, request=request
            )
        log_request(begun, method="POST", route=route, status=status)
        start_response(f"{status} {response.reason_phrase}", headers)
        return [content]

    def _fixed_headers(self, request: WSGIRequest) -> list[tuple[str, str]]:
        """Return what the middleware adds to every answer alike, asked once for each scheme."""
        is_secure = request.is_secure()
        if is_secure not in self._fixed:
            response = HttpResponse()
            del response["Content-Type"]
            for middleware in (SecurityMiddleware, XFrameOptionsMiddleware):
                middleware(lambda _request: response)(request)
            response["Content-Security-Policy"] = API_CONTENT_POLICY
            self._fixed[is_secure] = list(response.items())
        return self._fixed[is_secure]
