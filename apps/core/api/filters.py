"""What lists of every app are narrowed by in a URL: the names, and how each is read."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from django.db.models import Q
from rest_framework import serializers
from rest_framework.request import Request

from apps.core.api.fields import (
    METADATA_KEY_BYTES_MAX,
    METADATA_VALUE_BYTES_MAX,
    DayField,
    InstantField,
    clean_text,
)
from apps.core.api.problems import ApiProblem
from apps.core.windows import Window

METADATA_NAMES_MAX: Final = 10
_PLUS: Final = re.compile(r" (?=\d{2}:\d{2}$)", re.ASCII)
_METADATA: Final = re.compile(r"metadata\[.*\]", re.DOTALL)

CREATED: Final = ("created_from", "created_before")
CREATED_TOLD: Final = {
    "created_from": "Only those made at this instant or later; sorted by it.",
    "created_before": "Only those made before this instant; sorted by it.",
}
METADATA_TOLD: Final = {"metadata[key]": "Only those whose metadata has this value under this key."}
# What is said of each filter that no index has (ADR 0175).
SIFTED: Final = (
    " Looked for so many at a time: go on from `next`, also where a page has few or none."
)
METADATA_SIFTED_TOLD: Final = {name: told + SIFTED for name, told in METADATA_TOLD.items()}


@dataclass(frozen=True, slots=True)
class Timed:
    """
    A window of a column of time.

    `leads` says that an index has the organization, the column and the id, and no narrower one is
    named: then the list is sorted by the column, and is entered where the window is.
    """

    column: str
    window: Window
    leads: bool = True


def read_window(request: Request, from_name: str, before_name: str) -> Window:
    """
    Return the span of time that a request asks for.

    :raises ApiProblem: `invalid_request` (400), with the `parameter` that is wrong
    """
    window = Window(_instant(request, from_name), _instant(request, before_name))
    length = length_of(window)
    if length is not None and length < timedelta(0):
        raise wrong(before_name, f"{before_name} is not earlier than {from_name}.")
    return window


def clock_of(**windows: Window) -> str | None:
    """Return what a list is sorted by before the ids: the first column with a window, if any."""
    return next((name for name, window in windows.items() if not window.is_open), None)


def length_of(window: Window) -> timedelta | None:
    """Return how long a window is; None if it is open on a side."""
    if window.starts_at is None or window.ends_at is None:
        return None
    return window.ends_at - window.starts_at


def read_days(
    request: Request, from_name: str, before_name: str
) -> tuple[date | None, date | None]:
    """
    Return the days that a request asks for: the first of them, and that behind the last.

    :raises ApiProblem: `invalid_request` (400), with the `parameter` that is wrong
    """
    first, behind = read_day(request, from_name), read_day(request, before_name)
    if first is not None and behind is not None and behind < first:
        raise wrong(before_name, f"{before_name} is not earlier than {from_name}.")
    return first, behind


def read_day(request: Request, name: str) -> date | None:
    """
    Return the day that a request asks for.

    :raises ApiProblem: `invalid_request` (400), with the `parameter` that is wrong
    """
    given = request.query_params.get(name)
    if given is None:
        return None
    try:
        return DayField().to_internal_value(given)
    except serializers.ValidationError:
        raise wrong(name, f"{name} is a day such as 2026-06-30.") from None


def read_choice(request: Request, name: str, codes: Collection[str]) -> str | None:
    """
    Return which of these codes a request asks for.

    :raises ApiProblem: `invalid_request` (400), with the `parameter` that is wrong
    """
    given = request.query_params.get(name)
    if given is not None and given not in codes:
        raise wrong(name, f"There is no such {name}.")
    return given


def equal(**values: object) -> Q:
    """Return the condition of rows that have these values; None is not asked for."""
    return Q(**{name: value for name, value in values.items() if value is not None})


def metadata_names(request: Request) -> list[str]:
    """Return the query names of a request that ask for metadata, such as `metadata[order]`."""
    return [name for name in request.query_params if _METADATA.fullmatch(name) is not None]


def read_metadata(request: Request) -> dict[str, str]:
    """
    Return the metadata that a request asks for.

    :raises ApiProblem: `invalid_request` (400), with the `parameter` that is wrong
    """
    names = metadata_names(request)
    if len(names) > METADATA_NAMES_MAX:
        raise wrong("metadata", f"metadata is given for at most {METADATA_NAMES_MAX} keys.")
    return {
        _metadata_text(name, name[len("metadata[") : -1], METADATA_KEY_BYTES_MAX): _metadata_text(
            name, request.query_params[name], METADATA_VALUE_BYTES_MAX
        )
        for name in names
    }


def wrong(parameter: str, detail: str) -> ApiProblem:
    """Return the problem of a query parameter that means nothing."""
    return ApiProblem("invalid_request", detail, parameter=parameter)


def _metadata_text(name: str, given: str, bytes_max: int) -> str:
    if len(given.encode()) > bytes_max or (bytes_max == METADATA_KEY_BYTES_MAX and not given):
        raise wrong(name, "A key of metadata has 1 to 40 bytes, and a value at most 500.")
    try:
        return clean_text(given)
    except serializers.ValidationError:
        raise wrong(name, f"{name} has a character that is not allowed.") from None


def _instant(request: Request, name: str) -> datetime | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    try:
        # In a URL the bare plus of an offset is a blank; one between day and time is a blank.
        return InstantField().to_internal_value(_PLUS.sub("+", given))
    except serializers.ValidationError:
        raise wrong(name, f"{name} is an RFC 3339 instant with an offset.") from None
