"""What belongs to every request, whichever app answers it."""

import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, override

from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import DisallowedHost
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from apps.core import context, counters
from apps.core.api import problems
from apps.core.api.headers import add_headers
from config.logging import log_request

type GetResponse = Callable[[HttpRequest], HttpResponse]

# A request id may come from our proxy; what does not look like one is not repeated into our logs.
_REQUEST_ID: Final = re.compile(r"[0-9A-Za-z_-]{8,64}")
_TRACEPARENT: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
API_CONTENT_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
_DATA: Final = ("/v1/", "/hooks/")
PAGES: Final = "/admin/"
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
# The token changes with every sign-in; whoever has another's page has no token of this session.
_FORGED: Final = (
    "Nothing was done. The form was opened before you last signed in, or it is not from here."
    " Open it again and look it over: mostly what you typed in this window stands in it."
)
# Of a page that is made where Django's own policy is not added, or not yet.
_PAGE_CONTENT_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_BUSY: Final = "Too much is asked of us at once. Try again in a moment."
_PASSING: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_STRANGE_HOSTS: Final = counters.Counter(
    "kassa_strange_hosts_total",
    "Requests under a Host that is none of ours, or that is malformed: refused with 400.",
    (),
)
# Asked every few seconds by whatever watches: a line for each would bury the others.
_QUIET: Final = frozenset({"/livez", "/readyz"})


class RequestContextMiddleware:
    """Give each request its id, return it, and write its one line to the log."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        begun = begin_request(request.META)
        response = self.get_response(request)
        response["Request-Id"] = begun.request_id
        if request.path not in _QUIET:
            match = request.resolver_match
            log_request(
                begun,
                method=request.method,
                # The pattern, not the path: ids of rows are in the path, and strangers choose it.
                route=match.route if match else None,
                status=response.status_code,
            )
        return response


def begin_request(environ: Mapping[str, Any]) -> context.RequestContext:
    """Begin the context of a request: under the id it came with, or a fresh one."""
    given = _accept(_REQUEST_ID, environ.get("HTTP_REQUEST_ID"))
    return context.begin(
        request_id=given or os.urandom(16).hex(),
        traceparent=_accept(_TRACEPARENT, environ.get("HTTP_TRACEPARENT")),
        is_given=bool(given),
        arrived=environ.get("kassa.arrived"),
    )


class ApiHeadersMiddleware:
    """An API answer is data: no page may run from it, and nothing on the way keeps a copy."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith(_DATA):
            response["Content-Security-Policy"] = API_CONTENT_POLICY
            add_headers(request, response)
        elif request.path.startswith(PAGES):
            response["Cache-Control"] = "no-store"
        return response


class StaffFormsMiddleware:
    """Staff send forms as their browsers do, and nothing else: no script of a stranger's site."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        is_form = request.method in _READING or request.content_type in _FORMS
        if request.path.startswith(PAGES) and not is_form:
            return say(problems.ApiProblem("unsupported_media_type", "Send a form."))
        return self.get_response(request)


class StaffSessionMiddleware(SessionMiddleware):
    """Sessions of staff; where the database is away, their pages say so, and that it passes."""

    def process_exception(self, request: HttpRequest, fault: Exception) -> HttpResponse | None:
        """Answer what a page raised, if that passes."""
        return _say_away(request, fault)

    @override
    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        try:
            return super().process_response(request, response)
        except (DatabaseError, InterfaceError) as fault:
            away = _say_away(request, fault)
            if away is None:
                raise
            return away


def _say_away(request: HttpRequest, fault: Exception) -> HttpResponse | None:
    problem = problems.passing(fault) if request.path.startswith(PAGES) else None
    if problem is None:
        return None
    return say(problem, "We cannot reach the books, or they are busy. Try again in a moment.")


def say(problem: problems.ApiProblem, words: str = "") -> HttpResponse:
    """Return a page that says to people what a problem document says to programs."""
    passes = problem.status in _PASSING
    if not words:
        words = _BUSY if passes else problem.detail
    page = _print_page(words, passes=passes)
    headers = dict(problem.headers) | {"Content-Security-Policy": _PAGE_CONTENT_POLICY}
    return HttpResponse(page, status=problem.status, headers=headers)


@lru_cache(maxsize=32)
def _print_page(words: str, *, passes: bool, opens_again: bool = False) -> str:
    # Made without the request: who it is from would be looked up in the database.
    title = "Not just now" if passes else "That did not work"
    context = {"title": title, "words": words, "passes": passes, "opens_again": opens_again}
    return render_to_string("kassa/away.html", context)


def answer_malformed(
    request: HttpRequest,
    exception: Exception,
) -> HttpResponse:
    """Answer 400 to what came to no view, as a strange Host: the API as a problem document."""
    if isinstance(exception, DisallowedHost):
        _STRANGE_HOSTS.add()
    problem = problems.ApiProblem("invalid_request", "The request, or its Host, is malformed.")
    # Not Django's page: that one asks for the form's token, and falls over the same form again.
    return problems.respond(problem, request) if request.path.startswith(_DATA) else say(problem)


def answer_forged(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001  (Django's)
    """Answer 403 to a form with another session's token: mostly one opened before signing in."""
    page = _print_page(_FORGED, passes=False, opens_again=True)
    return HttpResponse(page, status=403, headers={"Content-Security-Policy": _PAGE_CONTENT_POLICY})


def _accept(shape: re.Pattern[str], value: str | None) -> str:
    return value if value is not None and shape.fullmatch(value) else ""
