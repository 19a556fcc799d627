"""
Signing in: what a try costs, and how often one may (ADR 0143).

A try is counted before anything is hashed: by the address it comes from and by the name, or, in a
browser that this person has signed in from, by that browser alone: whoever guesses elsewhere, or
from the same address, does not shut them out. Nothing that is said tells whether there is such a
person.
"""

import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NoReturn, override

from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.crypto import salted_hmac
from django.views.decorators.debug import sensitive_variables

from apps.backoffice.views import browsers
from apps.core import attempts, counters, passwords
from apps.core.api.caller import client_address, sender_of
from apps.core.attempts import Count

_BUSY_SECONDS: Final = 2

_SIGN_INS: Final = counters.Counter(
    "kassa_sign_ins_total",
    "Tries to sign in to the back office: signed_in, failed, limited or busy.",
    ("outcome",),
)


@dataclass(frozen=True, slots=True)
class Refused:
    """A try that was not looked at."""

    status: HTTPStatus
    words: str
    retry_after: int


class SignInForm(AdminAuthenticationForm):
    """Django's, but it hashes nothing for who tries too often."""

    request: HttpRequest
    refused: Refused | None = None

    @override
    @sensitive_variables()
    def clean(self) -> dict[str, Any]:
        name, password = (self.cleaned_data.get(field) for field in ("username", "password"))
        if not (name and password):
            return super().clean()
        # Django has stripped and normalized it; people are found by it in lower case.
        counts = _counts(self.request, name.lower())
        wait = attempts.take(counts)
        if wait:
            self._refuse("limited", _limited(wait))
        try:
            cleaned = super().clean()
        except passwords.HashersBusy:
            attempts.give_back(counts)
            self._refuse("busy", _BUSY)
        except (DatabaseError, InterfaceError):
            # Postgres is away, and whoever tries again as the page says is to be let in then.
            attempts.give_back(counts)
            raise
        except ValidationError:
            _SIGN_INS.add(outcome="failed")
            raise
        _SIGN_INS.add(outcome="signed_in")
        return cleaned

    def _refuse(self, outcome: str, refused: Refused) -> NoReturn:
        _SIGN_INS.add(outcome=outcome)
        self.refused = refused
        raise ValidationError(refused.words, code=outcome)


_BUSY: Final = Refused(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Too many people are signing in just now. Try again in a moment.",
    _BUSY_SECONDS,
)


def _limited(seconds: float) -> Refused:
    minutes = math.ceil(seconds / 60)
    words = "1 minute" if minutes == 1 else f"{minutes} minutes"
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"There were too many tries to sign in. Try again in {words}.",
        math.ceil(seconds),
    )


def _counts(request: HttpRequest, name: str) -> list[Count]:
    browser = browsers.browser_of(request, name)
    if browser:
        return [Count(f"sign_in:device:{browser}", settings.SIGN_INS_OF_NAME_MAX)]
    return [
        Count(f"sign_in:name:{_digest(name)}", settings.SIGN_INS_OF_NAME_MAX),
        Count(
            f"sign_in:address:{sender_of(client_address(request))}",
            settings.SIGN_INS_OF_ADDRESS_MAX,
        ),
    ]


def _digest(name: str) -> str:
    """Return what stands for a name where it must not be read."""
    return salted_hmac("kassa.sign_in", name, algorithm="sha256").hexdigest()


def finish(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Give the answer of the sign-in its status, and a browser its cookie once it is known."""
    shown = response.context_data or {} if isinstance(response, TemplateResponse) else {}
    form = shown.get("form")
    if form is not None and form.refused:
        response.status_code = form.refused.status
        response["Retry-After"] = str(form.refused.retry_after)
    elif request.method == "POST" and response.status_code == HTTPStatus.FOUND:
        browsers.remember_browser(request, response)
    return response
