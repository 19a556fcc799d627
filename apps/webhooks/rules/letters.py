"""
What contacts of an organization are told about its endpoints, word for word.

A letter leaves the house by plain e-mail: of a URL it says the host alone, since a path may be a
token, and it names nobody.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from apps.accounts.rules import Letter

DISABLED: Final = "webhook_endpoint.disabled"
MOVED: Final = "webhook_endpoint.moved"

_HEAD: Final = """\
{opening}

Endpoint: {endpoint}
Organization: {organization} ({mode} data)
"""
_FOOT: Final = """
You get this as a contact of the organization. It is sent by a machine that reads no answer.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The endpoint that a letter is about, by its printed ids and its host."""

    endpoint: str
    organization: str
    mode: str
    host: str


def disabled(told: Told, *, failing_since: datetime | None, at: datetime) -> Letter:
    """Say that an endpoint was switched off: nothing got through since then, or it said 410."""
    why = (
        "It answered 410 Gone, by which a receiver says that it wants nothing any more."
        if failing_since is None
        else f"No delivery has succeeded since {_instant(failing_since)}."
    )
    body = (
        _head(told, "Kassa has switched off a webhook endpoint of yours, and sends it nothing now.")
        + f"Host: {told.host}\nSwitched off: {_instant(at)}\nWhy: {why}\n"
        + "\nWhat it is owed is kept as long as the events themselves. Once the receiver answers,"
        f" enable the endpoint\n(POST /v1/webhook_endpoints/{told.endpoint}/enable) and say what"
        " is to become of it.\n"
    )
    return _letter(DISABLED, told, f"a webhook endpoint was switched off: {told.host}", body)


def moved(told: Told, *, from_host: str, by: str, at: datetime) -> Letter:
    """Say that an endpoint's URL was changed, and by whom: `told` names the new host."""
    is_same = from_host == told.host
    where = (
        f"Host: {told.host} (the same; the rest of the URL is another)\n"
        if is_same
        else f"Old host: {from_host}\nNew host: {told.host}\n"
    )
    body = (
        _head(told, "The URL of a webhook endpoint of yours was changed: events go there from now.")
        + where
        + f"Changed: {_instant(at)}, by {by}\n"
        + "\nIf nobody on your side did that, a key of yours may be in other hands: have it"
        " revoked, and look at the\nendpoint's URL (GET"
        f" /v1/webhook_endpoints/{told.endpoint}).\n"
    )
    return _letter(MOVED, told, f"the URL of a webhook endpoint was changed: {told.host}", body)


def _head(told: Told, opening: str) -> str:
    return _HEAD.format(
        opening=opening, endpoint=told.endpoint, organization=told.organization, mode=told.mode
    )


def _letter(kind: str, told: Told, subject: str, body: str) -> Letter:
    test = "[test] " if told.mode == "test" else ""
    return Letter(
        kind=kind, about=told.endpoint, subject=f"{test}Kassa: {subject}", body=body + _FOOT
    )


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%d %B %Y, %H:%M} UTC"
