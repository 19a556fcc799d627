"""
Who calls: the API key of a request, and what it may do.

The keys themselves belong to `apps.accounts`, which registers how one is looked up. These are plain
functions, so that a lean view of a hot route uses the same ones as `ApiView`.
"""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request

from apps.core.actors import Actor
from apps.core.api.problems import ApiProblem

KEY_PREFIX: Final = "kassa_"
_SCHEME: Final = "bearer "
_HEADER_LENGTH_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated API key: for whom it speaks, and within what bounds."""

    organization_id: UUID
    mode: str
    actor: Actor
    scopes: frozenset[str]
    api_key_id: UUID
    kassa_version: str

    # What Django REST framework asks of a user.
    is_authenticated = True


type Authenticator = Callable[[str, HttpRequest], Caller]

_registered: list[Authenticator] = []
_preparers: list[Callable[[Sequence[str]], None]] = []
_leak_handlers: list[Callable[[str], None]] = []
_declared_scopes: set[str] = set()


def register_authenticator(
    authenticate: Authenticator,
    *,
    prepare: Callable[[Sequence[str]], None],
    on_leak: Callable[[str], None],
) -> None:
    """
    Have `authenticate(token, request)` find the caller of a bearer token, or raise `ApiProblem`.

    `prepare(tokens)` may look up at once what several of its calls will need; it refuses nothing.
    `on_leak(token)` is told of a token that was sent where logs and proxies see it.
    """
    _registered[:] = [authenticate]
    _preparers[:] = [prepare]
    _leak_handlers[:] = [on_leak]


def authenticate(request: HttpRequest) -> Caller:
    """
    Return the caller of a request, and remember it on the request.

    :raises ApiProblem: `unauthenticated` or `invalid_api_key` (401), `address_not_allowed` (403)
    """
    _refuse_key_in_url(request)
    header = request.META.get("HTTP_AUTHORIZATION", "")
    if not header:
        raise ApiProblem("unauthenticated", "Send your API key as Authorization: Bearer <key>.")
    # Two headers arrive joined by a comma; neither is believed.
    if len(header) > _HEADER_LENGTH_MAX or "," in header:
        raise ApiProblem("invalid_api_key", "Send exactly one API key.")
    if header[: len(_SCHEME)].lower() != _SCHEME:
        raise ApiProblem("unauthenticated", "Send your API key as Authorization: Bearer <key>.")
    caller = _registered[0](_token(header), request)
    request.caller = caller  # type: ignore[attr-defined]  # read back by get_caller
    return caller


def prepare(requests: Sequence[HttpRequest]) -> None:
    """Have looked up at once what `authenticate` will need for each of several requests."""
    headers = {request.META.get("HTTP_AUTHORIZATION", "") for request in requests}
    _preparers[0]([_token(header) for header in headers if len(header) <= _HEADER_LENGTH_MAX])


def _token(header: str) -> str:
    return header[len(_SCHEME) :]


def _refuse_key_in_url(request: HttpRequest) -> None:
    if KEY_PREFIX not in request.META.get("QUERY_STRING", ""):
        return
    # It stands in access logs by now: a real one is revoked.
    for values in request.GET.lists():
        for value in values[1]:
            if value.startswith(KEY_PREFIX):
                _leak_handlers[0](value)
    raise ApiProblem("invalid_api_key", "An API key never belongs in a URL.")


def require_scope(caller: Caller, scope: str | None) -> None:
    """
    Refuse a caller without the scope; None is a route open to every key.

    :raises ApiProblem: `insufficient_scope` (403)
    """
    if scope is not None and scope not in caller.scopes:
        raise ApiProblem(
            "insufficient_scope", f"This API key lacks the scope {scope}.", required_scope=scope
        )


def declare_scopes(scopes: dict[str, str | None]) -> None:
    """Remember that routes with these scopes exist, so that a key can be given all of them."""
    _declared_scopes.update(scope for scope in scopes.values() if scope)


def declared_scopes() -> frozenset[str]:
    """Return every scope that some route asks for; complete once the URLs were loaded."""
    return frozenset(_declared_scopes)


def get_caller(request: HttpRequest | Request) -> Caller:
    """Return the caller that was authenticated for this request, plain or of the framework."""
    plain: Any = getattr(request, "_request", request)
    caller: Caller = plain.caller
    return caller


def client_address(request: HttpRequest) -> str:
    """
    Return the client's address: the n-th from the right of X-Forwarded-For, n = our own proxies.

    With no proxy of ours the header is a stranger's and is not read.
    """
    meta = request.META
    return address_behind(meta.get("HTTP_X_FORWARDED_FOR", ""), str(meta.get("REMOTE_ADDR", "")))


def address_behind(forwarded: str, remote: str) -> str:
    """Return the client's address, of the header's lines in one and of who is connected to us."""
    proxies: int = settings.OWN_PROXIES
    if not proxies:
        return remote
    hops = [hop.strip() for hop in forwarded.split(",")]
    # With fewer it did not come by way of all of them, or not whole: that is nobody's address.
    return hops[-proxies] if len(hops) >= proxies else ""


def sender_of(address: str) -> str:
    """Return whom a client's address stands for; of IPv6 anybody has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "nobody"
    if not isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
