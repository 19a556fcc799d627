"""What a search of the journal may name in its URL, and how it is read."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.fields import (
    AMOUNT_MAX,
    METADATA_KEY_BYTES_MAX,
    METADATA_VALUE_BYTES_MAX,
    InstantField,
    clean_text,
)
from apps.core.api.pagination import (
    PAGING_NAMES,
    answer_page,
    check_query,
    invalid_cursor,
    read_paging,
    read_text,
)
from apps.core.api.problems import ApiProblem
from apps.core.api.views import get_caller
from apps.core.ids import decode_id
from apps.ledger.api.asked import find_account
from apps.ledger.queries import Ask, Found, Place, Search, Window

AMOUNT_DAYS_MAX: Final = 31
METADATA_NAMES_MAX: Final = 10
_METADATA: Final = re.compile(r"metadata\[.*\]", re.DOTALL)
_TEXTS: Final = ("ledger_account", "reference", "kind")
_AMOUNTS: Final = ("amount", "amount_min", "amount_max")
CREATED: Final = ("created_from", "created_before")
EFFECTIVE: Final = ("effective_from", "effective_before")
NAMES: Final = (*_TEXTS, *EFFECTIVE, *CREATED, *_AMOUNTS)

_IN_A_WINDOW: Final = (
    f" Amounts have no index: give a ledger_account, or a window of at most {AMOUNT_DAYS_MAX} days."
)
METADATA_TOLD: Final = {"metadata[key]": "Only those whose metadata has this value under this key."}
CREATED_TOLD: Final = {
    "created_from": "Only those made at this instant or later; sorted by it.",
    "created_before": "Only those made before this instant; sorted by it.",
}
EFFECTIVE_TOLD: Final = {
    "effective_from": "Only those effective at this instant or later; sorted by it.",
    "effective_before": "Only those effective before this instant; sorted by it.",
}
CREATED_AFTER_EFFECTIVE_TOLD: Final = {
    name: f"{told[:-1]}, unless a window of effective_at is given."
    for name, told in CREATED_TOLD.items()
}
QUERY: Final[Mapping[str, str]] = {
    "ledger_account": "Only what touches this account; sorted by the account's versions.",
    "reference": "Only the entry with this reference.",
    "kind": "Only entries of this kind.",
    "metadata[key]": "Only entries whose metadata is now this value under this key.",
    "effective_from": "Only what is effective at this instant or later; sorted by it.",
    "effective_before": "Only what is effective before this instant; sorted by it.",
    "created_from": "Only what was recorded at this instant or later; sorted by it.",
    "created_before": "Only what was recorded before this instant; sorted by it.",
    "amount": "Only postings of this amount, debit or credit, in minor units." + _IN_A_WINDOW,
    "amount_min": "Only postings of this amount or more, debit or credit." + _IN_A_WINDOW,
    "amount_max": "Only postings of this amount or less, debit or credit." + _IN_A_WINDOW,
}


def read_search(request: Request, *, kind: str | None = None) -> Search:
    """
    Return what a request looks for; with `kind` among entries of that kind, and it names none.

    :raises ApiProblem: `invalid_request` (400), with the `parameter` that is wrong
    :raises LedgerAccountNotFound: if the caller's organisation has no such account
    """
    names = NAMES if kind is None else [name for name in NAMES if name != "kind"]
    check_query(request, {*PAGING_NAMES, *names, *metadata_names(request)})
    account = request.query_params.get("ledger_account")
    least, most = _amounts(request)
    organization_id = get_caller(request).organization_id
    search = Search(
        organization_id=organization_id,
        now=clock.now(),
        account_id=find_account(
            organization_id, None if account is None else decode_id("la", account)
        ),
        reference=read_text(request, "reference"),
        kind=kind or read_text(request, "kind"),
        metadata=read_metadata(request),
        effective=read_window(request, "effective_from", "effective_before"),
        recorded=read_window(request, "created_from", "created_before"),
        amount_min=least,
        amount_max=most,
    )
    _check_amount(request, search)
    return search


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
        raise _wrong("metadata", f"metadata is given for at most {METADATA_NAMES_MAX} keys.")
    return {
        _metadata_text(name, name[len("metadata[") : -1], METADATA_KEY_BYTES_MAX): _metadata_text(
            name, request.query_params[name], METADATA_VALUE_BYTES_MAX
        )
        for name in names
    }


def read_ask(request: Request, search: Search) -> Ask:
    """
    Return which page of a search a request asks for.

    :raises ApiProblem: `invalid_request`; `invalid_cursor` if it is of a search in another order
    """
    paging = read_paging(request)
    raw = paging.before if paging.before is not None else paging.after
    if raw is None:
        return Ask(paging.limit)
    try:
        place = Place.from_bytes(raw)
    except ValueError:
        raise invalid_cursor() from None
    if place.order != search.order:
        raise invalid_cursor()
    return Ask(paging.limit, place, newer=paging.before is not None)


def answer_found(
    request: Request, found: Found[Any], shape: type[serializers.Serializer[Any]]
) -> Response:
    """Answer a page of what was found."""
    return answer_page(
        request,
        shape(found.rows, many=True).data,
        older=None if found.older is None else found.older.to_bytes(),
        newer=None if found.newer is None else found.newer.to_bytes(),
    )


def _wrong(parameter: str, detail: str) -> ApiProblem:
    return ApiProblem("invalid_request", detail, parameter=parameter)


def _metadata_text(name: str, given: str, bytes_max: int) -> str:
    if len(given.encode()) > bytes_max or (bytes_max == METADATA_KEY_BYTES_MAX and not given):
        raise _wrong(name, "A key of metadata has 1 to 40 bytes, and a value at most 500.")
    try:
        return clean_text(given)
    except serializers.ValidationError:
        raise _wrong(name, f"{name} has a character that is not allowed.") from None


def read_window(request: Request, from_name: str, before_name: str) -> Window:
    """
    Return the span of time that a request asks for.

    :raises ApiProblem: `invalid_request` (400), with the `parameter` that is wrong
    """
    window = Window(_instant(request, from_name), _instant(request, before_name))
    length = _length(window)
    if length is not None and length < timedelta(0):
        raise _wrong(before_name, f"{before_name} is not earlier than {from_name}.")
    return window


def clock_of(**windows: Window) -> str | None:
    """Return what a list is sorted by before the ids: the first column with a window, if any."""
    return next((name for name, window in windows.items() if not window.is_open), None)


def _length(window: Window) -> timedelta | None:
    """Return how long a window is; None if it is open on a side."""
    if window.starts_at is None or window.ends_at is None:
        return None
    return window.ends_at - window.starts_at


def _instant(request: Request, name: str) -> datetime | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    try:
        return InstantField().to_internal_value(given)
    except serializers.ValidationError:
        raise _wrong(name, f"{name} is an RFC 3339 instant with an offset.") from None


def _amounts(request: Request) -> tuple[int | None, int | None]:
    exact, least, most = (_amount(request, name) for name in _AMOUNTS)
    if exact is None:
        if least is not None and most is not None and least > most:
            raise _wrong("amount_max", "amount_max is not less than amount_min.")
        return least, most
    if least is not None or most is not None:
        raise _wrong("amount", "Give amount, or amount_min and amount_max, not both.")
    return exact, exact


def _amount(request: Request, name: str) -> int | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    # ASCII only: int() reads the digits of every script.
    is_number = given.isascii() and given.isdigit() and len(given) <= len(str(AMOUNT_MAX))
    if not is_number or not 0 < int(given) <= AMOUNT_MAX:
        raise _wrong(name, f"{name} is a whole number of minor units, 1 to {AMOUNT_MAX}.")
    return int(given)


def _check_amount(request: Request, search: Search) -> None:
    if not search.has_amount or search.account_id is not None:
        return
    lengths = [_length(window) for window in (search.effective, search.recorded)]
    most = timedelta(days=AMOUNT_DAYS_MAX)
    if any(length is not None and length <= most for length in lengths):
        return
    name = next(name for name in _AMOUNTS if name in request.query_params)
    raise _wrong(name, f"{name} needs a ledger_account or a window.{_IN_A_WINDOW}")
