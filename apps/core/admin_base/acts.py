"""
An act: a form that calls one operation, the one the API calls (ADR 0061).

GET shows the facts and changes nothing. POST runs the operation in its own transaction, with the
form's token as idempotency key, so that a double click gives the first outcome. An act with a
preview shows first what would happen; the same input sent again is then done.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, override
from uuid import UUID, uuid4

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, QueryDict
from django.http.response import HttpResponseBase

from apps.core import clock, queries
from apps.core.actors import Actor
from apps.core.admin_base.pages import Table
from apps.core.canonical import digest
from apps.core.errors import (
    InvalidInput,
    NotFound,
    NotPermitted,
    Refusal,
    RuleViolation,
    StateConflict,
    TooOften,
)

REASON_LENGTH_MIN: Final = 5
REASON_LENGTH_MAX: Final = 500

_STATUS: Final[tuple[tuple[type[Refusal], int], ...]] = (
    (InvalidInput, 400),
    (NotPermitted, 403),
    (NotFound, 404),
    (StateConflict, 409),
    (RuleViolation, 422),
    (TooOften, 429),
)


class CapabilityMissing(PermissionDenied):
    """403: the person lacks this capability; the page names it and who has it."""

    def __init__(self, capability: str) -> None:
        super().__init__(capability)
        self.capability = capability


class ChangedMeanwhile(StateConflict):
    """The object changed between the opening of the form and its sending."""

    code = "changed_meanwhile"


class ActForm(forms.Form):
    """
    The form of an act: a reason, a token that stands for this opening of it, and the version seen.

    A subclass adds the operation's own arguments, under their names. What is typed into one that
    `is_private` is not kept by the browser.
    """

    is_private: ClassVar = False
    reason = forms.CharField(
        min_length=REASON_LENGTH_MIN,
        max_length=REASON_LENGTH_MAX,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Goes to the audit trail, word for word.",
    )
    form_token = forms.UUIDField(widget=forms.HiddenInput)
    expected_version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, user: Any, subject: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        self.user = user
        self.subject = subject
        # What the act is about is read first, the reason given last.
        self.order_fields([name for name in self.fields if name != "reason"] + ["reason"])

    def arguments(self) -> dict[str, Any]:
        """Return what the operation is called with, beside who, when and about what."""
        ours = {"form_token", "expected_version"}
        return {name: found for name, found in self.cleaned_data.items() if name not in ours}


class PreviewForm(ActForm):
    """The form of an act with a preview: it also carries what was seen of it."""

    previewed = forms.CharField(widget=forms.HiddenInput, required=False)

    @property
    def was_previewed(self) -> bool:
        """Say whether what it holds is what a preview was shown of."""
        return self.is_bound and self.data.get("previewed") == self.seen()

    def seen(self) -> str:
        """Return what stands for the input; the reason may still be put in other words."""
        sent: Any = self.data
        return digest(
            {name: sent.getlist(name) for name in sent if name not in _NOT_PREVIEWED}
        ).hex()

    @override
    def arguments(self) -> dict[str, Any]:
        given = super().arguments()
        given.pop("previewed")
        return given


_NOT_PREVIEWED: Final = frozenset(
    {"csrfmiddlewaretoken", "form_token", "expected_version", "previewed", "reason"}
)


def _stays_on(_subject: Any, _user: Any) -> str:  # noqa: ANN401  (any app's row)
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """
    One act of a screen. Buttons, URLs, permission tests and the audit name come from it.

    `off` says in words why it is not possible now, or nothing; `label` names act and amount;
    `done` says what is true afterwards, and `is_bad` that it is no good news. `subject` is the
    operation's name for the row's id. `on_list` is an act without a row, such as an import.
    `preview` returns what would happen, or raises what the operation would say; its form is a
    `PreviewForm`. `answer` makes the response of what the operation returned, where that is a file
    and not a changed row; it may refuse, as the operation may.
    """

    name: str
    capability: str
    operation: Callable[..., Any]
    label: Callable[[Any], str]
    form: type[ActForm] = ActForm
    subject: str = ""
    off: Callable[[Any, Any], str] = _stays_on
    done: Callable[[Any], str] = lambda _result: "Done."
    is_bad: Callable[[Any], bool] = lambda _result: False
    more: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]] = lambda _row, _cleaned: {}
    preview: Callable[[Any, Any], Sequence[Table]] | None = None
    answer: Callable[[Any], HttpResponseBase] | None = None
    presets: tuple[str, ...] = ()
    is_dangerous: bool = False
    on_list: bool = False
    is_always_shown: bool = False
    note: str = ""

    def needed(self, subject: Any) -> str:  # noqa: ANN401, ARG002  (any app's row)
        """Return the capability this act needs on this row."""
        return self.capability

    def refuse_stranger(self, subject: Any, user: Any) -> None:  # noqa: ANN401
        """
        Check the capability.

        :raises CapabilityMissing: if the person lacks it
        """
        if not user.has_perm(self.needed(subject)):
            raise CapabilityMissing(self.needed(subject))

    def is_offered(self, subject: Any, user: Any) -> bool:  # noqa: ANN401
        """Say whether the act has a button: for whom may, and where it is off in plain sight."""
        return self.is_always_shown or user.has_perm(self.needed(subject))

    def why_off(self, subject: Any, user: Any) -> str:  # noqa: ANN401
        """Say in words why the act is not possible now, or nothing."""
        if not user.has_perm(self.needed(subject)):
            return f"It belongs to: {', '.join(user.holders_of(self.needed(subject)))}."
        return self.off(subject, user)

    def bind(self, request: HttpRequest, subject: Any) -> ActForm:  # noqa: ANN401
        """Return the form: as sent, or as a link opens it, with a fresh token."""
        if request.method == "POST":
            return self.form(request.POST, request.FILES, user=request.user, subject=subject)
        own = self.form.declared_fields.keys() - PreviewForm.declared_fields.keys()
        linked = {name: request.GET[name] for name in own if name in request.GET}
        return self.form(
            user=request.user,
            subject=subject,
            initial=linked | {"form_token": uuid4(), "expected_version": version_of(subject)},
        )

    def run(self, form: ActForm, *, user: Any, subject: Any) -> Any:  # noqa: ANN401
        """
        Call the operation with actor, time, reason and the form's token as key.

        :raises ChangedMeanwhile: if the object is not the one the form showed
        :raises Refusal: what the operation says
        """
        key = f"{user.pk}:{form.cleaned_data['form_token']}"
        expected = form.cleaned_data["expected_version"]
        is_moved = expected is not None and expected != version_of(subject)
        # What moved it may be the first click of two: the operation then gives that outcome.
        if is_moved and not _is_known(subject, key):
            raise ChangedMeanwhile("This changed since you opened the form. Look at it again.")
        standing = {
            "organization_id": getattr(subject, "organization_id", None),
            self.subject or _subject_name(subject): getattr(subject, "pk", None),
            "idempotency_key": key,
            "actor": Actor.staff(user.pk),
            "now": clock.now(),
        }
        wanted = inspect.signature(self.operation).parameters
        arguments = form.arguments()
        if "reason" not in wanted:
            arguments.pop("reason", None)
        return self.operation(
            **{name: found for name, found in standing.items() if name in wanted}
            | arguments
            | dict(self.more(subject, form.cleaned_data))
        )


def version_of(subject: Any) -> int | None:  # noqa: ANN401  (any app's row)
    """Return the version a row carries, if it carries one."""
    found = getattr(subject, "event_sequence", None)
    return found if isinstance(found, int) else None


def _is_known(subject: Any, key: str) -> bool:  # noqa: ANN401  (any app's row)
    owner = getattr(subject, "organization_id", None)
    return owner is not None and queries.is_key_used(organization_id=owner, key=key)


def status_of(refusal: Refusal) -> int:
    """Return the HTTP status of a refusal's category."""
    return next((status for kind, status in _STATUS if isinstance(refusal, kind)), 422)


def fresh_form(form: ActForm, *, subject: Any) -> ActForm:  # noqa: ANN401  (any app's row)
    """
    Return the same input under a new token: a refusal is stored under the old one.

    What was typed is kept; the version is the one of now.
    """
    version = version_of(subject)
    return _with_data(
        form, form_token=str(uuid4()), expected_version="" if version is None else str(version)
    )


def seen_form(form: PreviewForm) -> ActForm:
    """Return the same input, as one whose preview was shown."""
    return _with_data(form, previewed=form.seen())


def _with_data(form: ActForm, **changes: str) -> ActForm:
    sent = QueryDict(mutable=True)
    sent.update(form.data)
    for name, value in changes.items():
        sent[name] = value
    renewed = type(form)(sent, user=form.user, subject=form.subject)
    renewed.is_valid()
    return renewed


def _subject_name(subject: Any) -> str:  # noqa: ANN401  (any app's row)
    return "subject_id" if subject is None else f"{subject._meta.model_name}_id"


def uuid_or_none(text: str) -> UUID | None:
    """Return the UUID a text spells, if it does."""
    try:
        return UUID(text)
    except ValueError:
        return None
