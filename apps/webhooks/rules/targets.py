"""
Where a webhook may go (events.md, section 4).

One parser reads a URL, and what is requested is rebuilt from its parts, so that no two readers see
two hosts in one text. Addresses are judged apart, each time they are resolved.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import idna

from apps.webhooks.errors import UrlRefused

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type Network = ipaddress.IPv4Network | ipaddress.IPv6Network

URL_LENGTH_MAX: Final = 2000
HOST_LENGTH_MAX: Final = 253
PORT_MAX: Final = 65_535
LABELS_MIN: Final = 2
# What a deployment writes that sends without a proxy, and means to.
NO_PROXY: Final = "none"

_URL: Final = re.compile(r"(https?)://([^/?#]*)(/[^?#]*)?(\?[^#]*)?", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"([^:@\[\]]+)(?::([0-9]{1,5}))?")
_PROXY: Final = re.compile(r"([0-9A-Za-z.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
_VISIBLE_ASCII: Final = re.compile(r"[!-~]*")
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_INNER_NAMES: Final = ("localhost", "local", "internal", "home.arpa", "onion")

# Not `is_global`: current Pythons call NAT64 and 6to4 forms of 127.0.0.1, and multicast, global.
_DENIED_V4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
    )
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_DENIED_V6: Final = tuple(
    ipaddress.IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """The deployment's own way out; its address is ours, and judged by nobody."""

    host: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Policy:
    """
    What this deployment allows.

    `allow_networks` is for tests, the sandbox and the benchmarks: an IPv4 literal inside it may be
    named, on any port, also by plain http. The deploy check refuses it in production.
    """

    ports: frozenset[int] = frozenset({443})
    allow_networks: tuple[Network, ...] = ()
    deny_networks: tuple[Network, ...] = ()
    proxy: Proxy | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """A URL's parts: what is connected to, and what is asked for there."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The `Host` header: the port only where it is not the scheme's own."""
        is_default = self.port == (443 if self.is_tls else 80)
        return self.host if is_default else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Read networks such as `10.0.0.0/8`."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def parse_proxy(text: str) -> Proxy | None:
    """
    Read `host:port`; None where nothing is given, or expressly no proxy.

    :raises ValueError: if it is anything else
    """
    if text in {"", NO_PROXY}:
        return None
    match = _PROXY.fullmatch(text)
    if match is None or not 0 < int(match[2]) <= PORT_MAX:
        raise ValueError("A proxy is host:port.")
    return Proxy(host=match[1].strip("[]"), port=int(match[2]))


def parse_url(text: str, *, policy: Policy) -> Target:
    """
    Read a URL into what would be requested, refusing whatever could be read in two ways.

    :raises UrlRefused: with the `reason`: length, characters, form, scheme, userinfo, host, port
    """
    _check_text(text)
    match = _URL.fullmatch(text)
    if match is None:
        raise _refused("form")
    scheme, authority, path, query = (part or "" for part in match.groups())
    scheme = scheme.lower()
    if not _VISIBLE_ASCII.fullmatch(path + query):
        raise _refused("characters")
    host, port = _split_authority(authority, default_port=443 if scheme == "https" else 80)
    if not _is_allowed_literal(host, policy=policy):
        host = _canonical_host(host)
        if scheme != "https":
            raise _refused("scheme")
        if port not in policy.ports:
            raise _refused("port")
    found = Target(scheme=scheme, host=host, port=port, path=(path or "/") + query)
    # A name beyond ASCII is written longer than it was given, and it is this that is stored.
    if len(found.url) > URL_LENGTH_MAX:
        raise _refused("length")
    return found


def _check_text(text: str) -> None:
    if len(text) > URL_LENGTH_MAX:
        raise _refused("length")
    if "\\" in text or any(character <= " " or character == "\x7f" for character in text):
        raise _refused("characters")


def _split_authority(authority: str, *, default_port: int) -> tuple[str, int]:
    if "@" in authority:
        raise _refused("userinfo")
    match = _AUTHORITY.fullmatch(authority)
    if match is None or "%" in authority:
        raise _refused("host")
    host, port = match.group(1), int(match.group(2) or default_port)
    if not 0 < port <= PORT_MAX:
        raise _refused("port")
    return host, port


def _canonical_host(host: str) -> str:
    try:
        name = idna.encode(host.removesuffix("."), uts46=True).decode("ascii").lower()
    except idna.IDNAError as error:
        raise _refused("host") from error
    labels = name.split(".")
    if len(name) > HOST_LENGTH_MAX or len(labels) < LABELS_MIN or not all(labels):
        raise _refused("host")
    # A last label of digits, also hexadecimal ones, is how resolvers know an IPv4 literal.
    if _is_numeric(labels[-1]):
        raise _refused("host")
    if any(name == inner or name.endswith(f".{inner}") for inner in _INNER_NAMES):
        raise _refused("host")
    return name


def _is_allowed_literal(host: str, *, policy: Policy) -> bool:
    """Let a plain IPv4 literal pass in tests and with the sandbox, and nowhere else."""
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return any(address in network for network in policy.allow_networks)


def _is_numeric(label: str) -> bool:
    return _NUMERIC_LABEL.fullmatch(label) is not None


def _refused(reason: str) -> UrlRefused:
    return UrlRefused("Webhooks are not sent to this URL.", reason=reason)


def is_allowed(address: str, *, policy: Policy) -> bool:
    """Say whether a resolved address is one that a webhook may be sent to."""
    try:
        found: Address = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    if any(found in network for network in policy.allow_networks):
        return True
    if any(found in network for network in policy.deny_networks):
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in network for network in _DENIED_V4)
    return found in _GLOBAL_V6 and not any(found in network for network in _DENIED_V6)


def are_allowed(addresses: Sequence[str], *, policy: Policy) -> bool:
    """Say whether there are addresses and every one may be sent to."""
    return bool(addresses) and all(is_allowed(each, policy=policy) for each in addresses)
