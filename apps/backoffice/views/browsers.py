"""
The browsers that people have signed in from, by a cookie (ADR 0143, 0153).

It is signed twice. For the person it is of: it says nothing for another one, and nobody else's
guesses are counted with that browser's. And without: before anybody knows whose name is in a form,
the server sees that it comes from a browser of one of ours. It opens nothing by itself.
"""

import secrets
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponse
from django.http.cookie import parse_cookie

_AGE_MAX: Final = timedelta(days=90)
_SEAL: Final = "kassa.sign_in.browser"


def browser_of(request: HttpRequest, name: str) -> str:
    """Return which of this person's browsers it is; nothing if it is none."""
    found = request.get_signed_cookie(_cookie(), default="", salt=_salt(name), max_age=_AGE_MAX)
    # What stands behind it is the seal.
    return (found or "").partition(":")[0]


def find_browser(header: str) -> str:
    """Return which browser sends this Cookie header, of whomever of ours; nothing if of nobody."""
    sealed = parse_cookie(header).get(_cookie(), "").rsplit(":", 2)[0]
    try:
        return TimestampSigner(salt=_SEAL).unsign(sealed, max_age=_AGE_MAX)
    except BadSignature:
        return ""


def remember_browser(request: HttpRequest, response: HttpResponse) -> None:
    """Give the browser that somebody has just signed in from its cookie, for another 90 days."""
    name = request.user.get_username()
    browser = browser_of(request, name) or secrets.token_hex(16)
    response.set_signed_cookie(
        _cookie(),
        TimestampSigner(salt=_SEAL).sign(browser),
        salt=_salt(name),
        max_age=_AGE_MAX,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )


def _cookie() -> str:
    # With the prefix of the session's, which has a browser take it from this host alone.
    return f"{settings.SESSION_COOKIE_NAME}-device"


def _salt(name: str) -> str:
    return f"kassa.sign_in.device:{name}"
