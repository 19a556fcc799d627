"""
The way out through the egress proxy: an HTTP tunnel to an address that was checked (ADR 0041).

The proxy is asked for the address and resolves nothing, so what it connects to is what was judged.
What is spoken inside the tunnel, TLS by the receiver's name above all, it neither sees nor changes.
"""

import re
import socket
from typing import Final

from apps.webhooks.adapters._wire import seconds_left
from apps.webhooks.adapters.addresses import Unresolvable, resolve
from apps.webhooks.rules.targets import Proxy

HEAD_BYTES_MAX: Final = 8192
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")


class ProxyFailed(Exception):
    """The proxy was not reached, or does not do what it is there for: nothing a receiver did."""


class ProxyForbids(Exception):
    """The proxy lets nobody go to this address."""


def open_tunnel(proxy: Proxy, *, address: str, port: int, limit: float) -> socket.socket:
    """
    Return a socket at whose other end is this address, connected before `limit`.

    :raises TimeoutError: if the address was not reached in time
    :raises ConnectionError: if the proxy says that it was not reached
    """
    connected = _reach(proxy, limit=limit)
    try:
        _check(_ask(connected, address=address, port=port, limit=limit))
    except BaseException:
        connected.close()
        raise
    return connected


def _reach(proxy: Proxy, *, limit: float) -> socket.socket:
    try:
        found = resolve(proxy.host, proxy.port)
        return socket.create_connection((found[0], proxy.port), timeout=seconds_left(limit))
    except (OSError, Unresolvable) as error:
        raise ProxyFailed("The egress proxy was not reached.") from error


def _ask(connected: socket.socket, *, address: str, port: int, limit: float) -> int:
    """Ask for the tunnel; return the status of the answer."""
    there = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    head = b""
    try:
        connected.settimeout(seconds_left(limit))
        connected.sendall(f"CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n\r\n".encode("ascii"))
        # Byte by byte: what follows the head is the receiver's.
        while not head.endswith(b"\r\n\r\n") and len(head) < HEAD_BYTES_MAX:
            connected.settimeout(seconds_left(limit))
            piece = connected.recv(1)
            if not piece:
                raise ProxyFailed("The egress proxy hung up.")
            head += piece
    except TimeoutError:
        # It was there and took the question: it waits for the address in vain.
        raise
    except OSError as error:
        raise ProxyFailed("The egress proxy broke off.") from error
    match = _STATUS.match(head)
    if match is None or not head.endswith(b"\r\n\r\n"):
        raise ProxyFailed("The egress proxy does not speak HTTP.")
    return int(match[1])


def _check(status: int) -> None:
    match status:
        case _ if 200 <= status <= 299:  # noqa: PLR2004  (HTTP's own)
            return
        case 403:
            raise ProxyForbids
        case 504:
            raise TimeoutError("The egress proxy did not reach the address in time.")
        case 500 | 502 | 503:
            raise ConnectionError("The egress proxy did not reach the address.")
        case _:
            msg = f"The egress proxy answers {status}."
            raise ProxyFailed(msg)
