"""
Sending one webhook: to a checked address, by name in SNI and `Host`, within one deadline.

A general HTTP client resolves again, follows redirects and reads the environment's proxies; each
of those is a way round the address check, so this is a small client of its own over sockets. The
one proxy it knows is the deployment's own, which is asked for a checked address.
"""

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final, override
from uuid import UUID

import structlog

from apps.webhooks.adapters._tunnel import ProxyFailed, ProxyForbids, open_tunnel
from apps.webhooks.adapters._wire import BYTES_MAX, Wire, seconds_left
from apps.webhooks.adapters.addresses import Resolver, Unresolvable, resolve
from apps.webhooks.rules import retries, targets
from apps.webhooks.rules.retries import Attempt, Outcome
from apps.webhooks.rules.targets import Policy, Proxy, Target

log = structlog.stdlib.get_logger("kassa.webhooks")

ATTEMPT_SECONDS_MAX: Final = 15.0
CONNECT_SECONDS_MAX: Final = 3.0
# Once the answer is known: of what follows a beginning is kept, for people to look at.
BODY_SECONDS_MAX: Final = 1.0
HEAD_BYTES_MAX: Final = 2048


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is to be sent, signed already."""

    delivery_id: UUID
    number: int
    target: Target
    headers: Mapping[str, str]
    body: bytes
    started_at: datetime


@dataclass(frozen=True, kw_only=True)
class _Answer:
    outcome: Outcome
    status_code: int | None = None
    address: str = ""
    head: str = ""
    retry_after: str = ""


class _Failed(Exception):
    """The attempt ended before an answer; says how, and at which address."""

    def __init__(self, outcome: Outcome, *, address: str = "") -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.address = address


@dataclass(slots=True)
class _Connection:
    wire: Wire
    target: Target
    address: str


class Sender:
    """
    Sends messages one after the other, keeping the last connection where that is safe.

    Not for use by several threads at once. Close it when the lane is done.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        resolver: Resolver = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._tls = tls or default_tls()
        self._kept: _Connection | None = None

    def close(self) -> None:
        """Close the connection that was kept, if there is one."""
        if self._kept is not None:
            self._kept.wire.socket.close()
            self._kept = None

    def send(self, message: Message) -> Attempt:
        """Send once and say how it went. Nothing is raised for what a receiver may do."""
        begun = time.monotonic()
        try:
            answer = self._exchange(message, deadline=begun + ATTEMPT_SECONDS_MAX)
        except _Failed as failure:
            answer = _Answer(outcome=failure.outcome, address=failure.address)
        return Attempt(
            delivery_id=message.delivery_id,
            number=message.number,
            started_at=message.started_at,
            duration_ms=int((time.monotonic() - begun) * 1000),
            outcome=answer.outcome,
            status_code=answer.status_code,
            address=answer.address,
            head=answer.head,
            retry_after=answer.retry_after,
        )

    def _exchange(self, message: Message, *, deadline: float) -> _Answer:
        addresses = self._checked_addresses(message.target)
        kept, self._kept = self._kept, None
        if kept is not None:
            if kept.target == message.target and kept.address in addresses:
                kept.wire.renew(deadline=deadline)
                try:
                    return self._talk(kept, message)
                except _Stale:
                    # The peer closed an idle connection without a word; it is not an answer.
                    pass
            kept.wire.socket.close()
        fresh = self._connect(message.target, addresses, deadline=deadline)
        try:
            return self._talk(fresh, message)
        except _Stale as stale:
            raise _Failed(Outcome.CONNECT_ERROR, address=fresh.address) from stale

    def _checked_addresses(self, target: Target) -> list[str]:
        try:
            addresses = self._resolver(target.host, target.port)
        except Unresolvable as error:
            raise _Failed(Outcome.DNS_ERROR) from error
        # Every address must pass: of one public and one private record neither is contacted.
        if not targets.are_allowed(addresses, policy=self._policy):
            raise _Failed(Outcome.BLOCKED_ADDRESS, address=addresses[0])
        return addresses

    def _connect(self, target: Target, addresses: list[str], *, deadline: float) -> _Connection:
        tried = _first_of(addresses)
        end = min(deadline, time.monotonic() + CONNECT_SECONDS_MAX)
        failure = _Failed(Outcome.CONNECT_ERROR)
        for place, address in enumerate(tried):
            # An equal share of what is left: one that answers nothing leaves the next its time.
            begun = time.monotonic()
            limit = begun + (end - begun) / (len(tried) - place)
            try:
                connected = self._open(target, address, limit=limit)
            except _Failed as failed:
                failure = failed
            else:
                return _Connection(Wire(connected, deadline=deadline), target, address)
        raise failure

    def _open(self, target: Target, address: str, *, limit: float) -> socket.socket:
        try:
            return _open(target, address, limit=limit, tls=self._tls, proxy=self._policy.proxy)
        except TimeoutError as error:
            raise _Failed(Outcome.TIMEOUT, address=address) from error
        except ssl.SSLError as error:
            raise _Failed(Outcome.TLS_ERROR, address=address) from error
        except OSError as error:
            raise _Failed(Outcome.CONNECT_ERROR, address=address) from error
        except ProxyForbids as error:
            raise _Failed(Outcome.BLOCKED_ADDRESS, address=address) from error
        except ProxyFailed as error:
            log.warning("webhook_proxy_failed", reason=str(error))
            raise _Failed(Outcome.INTERNAL_ERROR, address=address) from error

    def _talk(self, connection: _Connection, message: Message) -> _Answer:
        """Send the request and read the answer; keep the connection only if it is at rest."""
        is_kept = False
        try:
            answer, is_kept = _request(connection, message)
        except TimeoutError as error:
            raise _Failed(Outcome.TIMEOUT, address=connection.address) from error
        except (http.client.HTTPException, ValueError) as error:
            if connection.wire.received == 0:
                raise _Stale from error
            raise _Failed(Outcome.PROTOCOL_ERROR, address=connection.address) from error
        except OSError as error:
            if connection.wire.received == 0:
                raise _Stale from error
            raise _Failed(Outcome.CONNECT_ERROR, address=connection.address) from error
        finally:
            if not is_kept:
                connection.wire.socket.close()
        self._kept = connection
        return answer


class _Stale(Exception):
    """The connection ended before a single byte of an answer."""


def _first_of(addresses: list[str]) -> list[str]:
    """
    Return the two addresses that are tried: of both families one, if the name has both.

    A worker without a route outside is given those of IPv6 first, whatever its proxy can reach.
    """
    first, *others = addresses
    of_another_family = [each for each in others if (":" in each) != (":" in first)]
    return [first, *(of_another_family or others)[:1]]


@cache
def default_tls() -> ssl.SSLContext:
    """Return the client's TLS settings: the system's authorities, and 1.2 at least."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _open(
    target: Target, address: str, *, limit: float, tls: ssl.SSLContext, proxy: Proxy | None
) -> socket.socket:
    connected = (
        open_tunnel(proxy, address=address, port=target.port, limit=limit)
        if proxy
        else _open_directly(address, port=target.port, limit=limit)
    )
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.is_tls:
            connected.settimeout(seconds_left(limit))
            return tls.wrap_socket(connected, server_hostname=target.host)
    except BaseException:
        connected.close()
        raise
    return connected


def _open_directly(address: str, *, port: int, limit: float) -> socket.socket:
    connected = socket.create_connection((address, port), timeout=seconds_left(limit))
    try:
        _check_peer(connected, address)
    except BaseException:
        connected.close()
        raise
    return connected


def _check_peer(connected: socket.socket, address: str) -> None:
    if connected.getpeername()[0] != address:
        raise ConnectionError("Another peer answered than the one that was checked.")


class _Response(http.client.HTTPResponse):
    """
    The final answer: whatever a receiver says before it, such as 103, is passed over.

    The library does so with 100 alone. After 101 another protocol is spoken, so that one is final.
    """

    @override
    def _read_status(self) -> tuple[str, int, str]:  # type: ignore[misc]  # typeshed leaves it out
        version, status, reason = super()._read_status()  # type: ignore[misc]  # as above
        is_interim = http.client.SWITCHING_PROTOCOLS < status < http.client.OK
        return version, http.client.CONTINUE if is_interim else status, reason


def _request(connection: _Connection, message: Message) -> tuple[_Answer, bool]:
    target, wire = message.target, connection.wire
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"Host: {target.authority}",
        "Content-Type: application/json",
        f"Content-Length: {len(message.body)}",
        "User-Agent: Kassa-Webhooks/1",
        "Accept: */*",
        *(f"{name}: {value}" for name, value in message.headers.items()),
    ]
    wire.send("\r\n".join([*lines, "", ""]).encode("ascii") + message.body)

    response = _Response(wire, method="POST")  # type: ignore[arg-type]  # of a socket it uses makefile only
    try:
        response.begin()
        wire.deadline = min(wire.deadline, time.monotonic() + BODY_SECONDS_MAX)
        head, is_whole = _head_of(response, wire)
        is_kept = is_whole and not response.will_close
    finally:
        response.close()
    answer = _Answer(
        outcome=retries.outcome_of_status(response.status),
        status_code=response.status,
        address=connection.address,
        head=head,
        retry_after=(response.getheader("Retry-After") or "")[:100],
    )
    return answer, is_kept


def _head_of(response: http.client.HTTPResponse, wire: Wire) -> tuple[str, bool]:
    """Return the beginning of the body, fit for a text column, and whether it was read whole."""
    kept = b""
    try:
        while chunk := response.read(4096):
            kept = (kept + chunk)[:HEAD_BYTES_MAX]
        is_whole = response.isclosed() and wire.received < BYTES_MAX
    except (http.client.HTTPException, OSError, ValueError):
        # The status is the answer; a body that is cut, dripped or broken changes nothing.
        is_whole = False
    # NUL is the one character that a Postgres text cannot hold.
    return kept.decode("utf-8", errors="replace").replace("\x00", ""), is_whole
