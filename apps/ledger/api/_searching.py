"""What a search of the journal may name in its URL, and how it is read."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.core.api.fields import AMOUNT_MAX
from apps.core.api.filters import (
    CREATED,
    CREATED_TOLD,
    length_of,
    metadata_names,
    read_metadata,
    read_window,
    wrong,
)
from apps.core.api.pagination import (
    PAGING_NAMES,
    answer_page,
    check_query,
    invalid_cursor,
    read_paging,
    read_text,
)
from apps.core.api.views import get_caller
from apps.core.ids import decode_id
from apps.ledger.api.asked import find_account
from apps.ledger.queries import Ask, Found, Place, Search

AMOUNT_DAYS_MAX: Final = 31
_TEXTS: Final = ("ledger_account", "reference", "kind")
_AMOUNTS: Final = ("amount", "amount_min", "amount_max")
EFFECTIVE: Final = ("effective_from", "effective_before")
NAMES: Final = (*_TEXTS, *EFFECTIVE, *CREATED, *_AMOUNTS)

_IN_A_WINDOW: Final = (
    f" Amounts have no index: give a ledger_account, or a window of at most {AMOUNT_DAYS_MAX} days."
)
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


def _amounts(request: Request) -> tuple[int | None, int | None]:
    exact, least, most = (_amount(request, name) for name in _AMOUNTS)
    if exact is None:
        if least is not None and most is not None and least > most:
            raise wrong("amount_max", "amount_max is not less than amount_min.")
        return least, most
    if least is not None or most is not None:
        raise wrong("amount", "Give amount, or amount_min and amount_max, not both.")
    return exact, exact


def _amount(request: Request, name: str) -> int | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    # ASCII only: int() reads the digits of every script.
    is_number = given.isascii() and given.isdigit() and len(given) <= len(str(AMOUNT_MAX))
    if not is_number or not 0 < int(given) <= AMOUNT_MAX:
        raise wrong(name, f"{name} is a whole number of minor units, 1 to {AMOUNT_MAX}.")
    return int(given)


def _check_amount(request: Request, search: Search) -> None:
    if not search.has_amount or search.account_id is not None:
        return
    lengths = [length_of(window) for window in (search.effective, search.recorded)]
    most = timedelta(days=AMOUNT_DAYS_MAX)
    if any(length is not None and length <= most for length in lengths):
        return
    name = next(name for name in _AMOUNTS if name in request.query_params)
    raise wrong(name, f"{name} needs a ledger_account or a window.{_IN_A_WINDOW}")
