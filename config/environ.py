"""A request as WSGI has it, made of what the server tells by RSGI."""

import sys
from collections.abc import Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

type Environ = dict[str, Any]

_NAMES_KEPT: Final = 1024


class Headers(Protocol):
    """The headers of a request: names in lower case, each line by itself."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Yield each header's name and value."""
        ...

    def get(self, key: str, default: str | None = None) -> str | None:
        """Return the first value of a header."""
        ...

    def get_all(self, key: str) -> list[str]:
        """Return the values of a header, one for each of its lines."""
        ...


class Scope(NamedTuple):
    """What is known of a request before its body (granian's RSGI specification, 1.5)."""

    http_version: str
    server: str
    client: str
    scheme: str
    method: str
    path: str
    query_string: str
    headers: Headers


_fields: Final = attrgetter(*Scope._fields)


def read_scope(given: object) -> Scope:
    """Return what the server tells, read once: it makes each text anew, and copies all headers."""
    return Scope._make(_fields(given))


def make_environ(scope: Scope, body: BinaryIO, length: int, *, arrived: float) -> Environ:
    """
    Return the environment of a request whose body of so many bytes is here already.

    `arrived` is when it was, on the monotonic clock: what waits for a thread waits since then.

    A name with an underscore is not kept: in an environment it could not be told from the same
    name with a hyphen, which a proxy of ours may have set (PEP 3333 has one form for both).
    """
    host, _, port = scope.server.rpartition(":")
    environ: Environ = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        # Bytes, each as one character: what WSGI calls a native string.
        "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string.encode().decode("latin-1"),
        "SERVER_NAME": host.strip("[]"),
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "kassa.arrived": arrived,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        key = _key(name)
        if key is None:
            continue
        if key in environ:
            # RFC 9110, section 5.3; cookies are the exception (RFC 6265, section 5.4).
            environ[key] += f"{'; ' if key == 'HTTP_COOKIE' else ','}{value}"
        else:
            environ[key] = value
    if length or "CONTENT_LENGTH" in environ:
        environ["CONTENT_LENGTH"] = str(length)
    return environ


@lru_cache(maxsize=_NAMES_KEPT)
def _key(name: str) -> str | None:
    if "_" in name:
        return None
    key = name.upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"
