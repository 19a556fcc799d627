"""
Where webhooks may go, read as a process starts.

A slip in it that only a worker met would set lane after lane aside.
"""

from collections.abc import Sequence

from django.core.exceptions import ImproperlyConfigured

from apps.webhooks.rules import targets


def read_ports(name: str, texts: Sequence[str]) -> list[int]:
    """Return the ports of a setting; raise ImproperlyConfigured, naming what is none."""
    for text in texts:
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= targets.PORT_MAX):
            msg = f"{name} has {text!r}, which is no port."
            raise ImproperlyConfigured(msg)
    return [int(text) for text in texts]


def read_networks(name: str, texts: Sequence[str]) -> list[str]:
    """Return the networks of a setting; raise ImproperlyConfigured, naming what is none."""
    for text in texts:
        try:
            targets.parse_networks([text])
        except ValueError as error:
            msg = f"{name} has {text!r}, which is no network: {error}."
            raise ImproperlyConfigured(msg) from error
    return list(texts)


def read_proxy(name: str, text: str) -> str:
    """Return the proxy of a setting; raise ImproperlyConfigured if it is no `host:port`."""
    try:
        targets.parse_proxy(text)
    except ValueError as error:
        msg = f"{name} is {text!r}, and neither host:port nor {targets.NO_PROXY}."
        raise ImproperlyConfigured(msg) from error
    return text
