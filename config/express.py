"""
The express lane: the hottest route, answered without Django's handler and middleware.

Those cost more than all else its view does. The lane takes what is plainly a request for its route
and leaves everything else, a strange host or an address that wants TLS included, to Django. It
answers many requests by turns on one thread, which costs a third less than a thread for each
(docs/adr/0091-one-thread-for-many-requests.md). Its answers are the same, header by header, and so
is its log line: a test sends every kind of request both ways (tests/config/test_express.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

import sentry_sdk
import structlog
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.wsgi import WSGIRequest
from django.db import close_old_connections, connection
from django.http import HttpRequest, HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils.log import log_response

from apps.core import context
from apps.core.api.gathering import Begun, GatheringApiView
from apps.core.api.headers import list_headers
from apps.core.context import RequestContext
from apps.ledger.api.views import TransferCollection
from config.environ import Environ
from config.logging import Line, describe_request, write_requests
from config.middleware import API_CONTENT_POLICY, begin_request

log = structlog.stdlib.get_logger("kassa.lane")

# As the URL configuration has it, which is also how the log names it.
ROUTE: Final = "v1/transfers"
VIEW: Final[type[GatheringApiView[Any]]] = TransferCollection
_HOSTS_MAX: Final = 100
_BAD_REQUEST: Final = 400


class Answer(NamedTuple):
    """An answer as the server sends it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Part(NamedTuple):
    """
    Requests that are answered together: their places, and what answers them in that order.

    They are one organization's, or nobody's: those were done or refused when they were admitted,
    and are one part, whose lines are written together. If they are not to be answered, `give_up` is
    called instead.
    """

    organization_id: UUID | None
    places: list[int]
    answer: Callable[[], list[Answer | None]]
    give_up: Callable[[], None]


class ExpressLane:
    """Answers POSTs to its route, many at a time."""

    def __init__(self) -> None:
        self._hosts: set[str] = set()
        self._fixed: dict[bool, list[tuple[str, str]]] = {}

    @staticmethod
    def takes(*, method: str, path: str, query: str) -> bool:
        """Say whether a request may be one for the lane."""
        return path == f"/{ROUTE}" and method == "POST" and not query

    def admit(self, environs: Sequence[Environ]) -> list[Part]:
        """
        Admit requests, given as WSGI has them; return in parts what is left to do.

        A part is one organization's, or what is answered without more. One that cannot even be read
        as a request is Django's, so that it harms no other.
        """
        read = {place: self._read(environ) for place, environ in enumerate(environs)}
        plain = {place: one for place, one in read.items() if one is not None}
        view = VIEW()
        try:
            return self._admit(view, plain, read)
        # Nobody has the parts of what was admitted.
        except BaseException:
            view.give_up(plain, plain)
            raise

    def _admit(
        self, view: GatheringApiView[Any], plain: Mapping[int, Begun], read: Iterable[int]
    ) -> list[Part]:
        with _reporting():
            answered, asked = view.admit_many(plain)
        at_once = [place for place in read if place in answered or place not in plain]
        parts = [
            Part(
                organization_id,
                list(places),
                partial(self._carry_out, view, plain, organization_id, places),
                partial(view.give_up, plain, places),
            )
            for organization_id, places in asked.items()
        ]
        if at_once:
            print_all = partial(self._print_all, plain, answered, at_once)
            parts.append(Part(None, at_once, print_all, partial(view.give_up, plain, ())))
        # What is done or refused, then the smallest.
        return sorted(parts, key=lambda part: (part.organization_id is not None, len(part.places)))

    def _carry_out(
        self,
        view: GatheringApiView[Any],
        plain: Mapping[int, Begun],
        organization_id: UUID,
        asked: Mapping[int, Any],
    ) -> list[Answer | None]:
        with _reporting():
            answered = view.carry_out(plain, organization_id, asked)
        return self._print_all(plain, answered, list(asked))

    def _print_all(
        self,
        plain: Mapping[int, Begun],
        answered: Mapping[int, HttpResponse],
        places: Sequence[int],
    ) -> list[Answer | None]:
        lines: list[Line] = []
        try:
            return [
                self._finish(*plain[place], answered[place], lines) if place in plain else None
                for place in places
            ]
        finally:
            _write(lines)

    def _read(self, environ: Environ) -> Begun | None:
        try:
            request = WSGIRequest(environ)
            if not self._is_plain(request):
                return None
        # Whatever it is that is wrong with it: Django says so.
        except Exception:  # noqa: BLE001
            return None
        return begin_request(request.META), request

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

    def _finish(
        self,
        begun: RequestContext,
        request: HttpRequest,
        response: HttpResponse,
        lines: list[Line],
    ) -> Answer | None:
        context.resume(begun)
        try:
            printed = self._print(begun, request, response)
            lines.append(describe_request(begun, method="POST", route=ROUTE, status=printed.status))
        # Django answers it then: what was done stands under its idempotency key.
        except Exception:
            log.exception("answer_not_printed")
            return None
        return printed

    def _print(self, begun: RequestContext, request: HttpRequest, response: HttpResponse) -> Answer:
        content = response.content
        status = response.status_code
        if status >= _BAD_REQUEST:
            log_response(
                "%s: %s", response.reason_phrase, request.path, response=response, request=request
            )
        headers = [
            *response.items(),
            *list_headers(request),
            *self._fixed_headers(request),
            ("Content-Length", str(len(content))),
            ("Request-Id", begun.request_id),
        ]
        return Answer(status, headers, content)

    def _fixed_headers(self, request: HttpRequest) -> list[tuple[str, str]]:
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


def _write(lines: Sequence[Line]) -> None:
    try:
        write_requests(lines)
    # What was done is answered, whether or not its line could be made.
    except Exception:
        # They are of many.
        context.begin()
        log.exception("lines_not_written", size=len(lines))


@contextmanager
def _reporting() -> Iterator[None]:
    """Report a fault with what led to it in its turn, not with what other keys did before."""
    with sentry_sdk.isolation_scope() if settings.SENTRY_DSN else nullcontext() as scope:
        if scope is not None:
            # It begins as a copy of the thread's, which knows the answers before these.
            scope.clear_breadcrumbs()
        yield
    if connection.errors_occurred:
        # What the signal at a request's end does for Django; one that works is kept for more.
        close_old_connections()
