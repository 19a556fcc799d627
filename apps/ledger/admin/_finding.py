"""What the journal's filters mean: one search of the ledger, bounded as every search is."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from apps.accounts.models import Organization
from apps.core.admin_base import Filter, lists
from apps.core.errors import Refusal
from apps.core.ids import decode_id
from apps.core.money import AMOUNT_MAX, EXPONENTS, minor_from_decimal
from apps.core.wall_clock import day_bounds, day_of
from apps.ledger import queries
from apps.ledger.queries import Place, Search, Window
from apps.ledger.rules.months import YEAR_MAX, YEAR_MIN

# An amount has no index: it is looked for on an account, or in so many days (ADR 0080).
AMOUNT_DAYS: Final = 31

FILTERS: Final[tuple[Filter, ...]] = (
    lists.searched("account", "Account", placeholder="la_… or the whole code"),
    lists.searched("kind", "Kind", placeholder="transfer"),
    lists.searched("reference", "Reference", placeholder="The whole reference"),
    lists.searched("amount_from", "Amount from", placeholder="100.00"),
    lists.searched("amount_to", "Amount to", placeholder="250.00"),
    lists.searched("currency", "Currency", placeholder="EUR"),
    lists.searched(
        "by",
        "Posted by",
        choices=[("staff:", "A person"), ("api_key:", "An API key"), ("job:", "A job")],
    ),
    lists.searched("actor", "What one actor posted", is_linked=True),
    lists.searched("effective_from", "Business time from", input_type="date"),
    lists.searched("effective_until", "Business time until", input_type="date"),
    lists.searched("recorded_from", "Recorded from", input_type="date"),
    lists.searched("recorded_until", "Recorded until", input_type="date"),
)


class NotReadable(ValueError):
    """What was typed into a filter means nothing; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for, if it can be read, and what a person should know of how."""

    search: Search | None
    notice: str = ""


def is_asked(query: Mapping[str, str]) -> bool:
    """Say whether any of the filters is set."""
    return any(lists.typed(query.get(filter_.name, "")) for filter_ in FILTERS)


def read(query: Mapping[str, str], organization: Organization, *, now: datetime) -> Asked:
    """Return what the filters ask for in one organization's journal, or what is wrong with them."""
    try:
        return _bounded(_search(query, organization, now=now), zone=organization.time_zone)
    except NotReadable as wrong:
        return Asked(None, str(wrong))


def _search(query: Mapping[str, str], organization: Organization, *, now: datetime) -> Search:
    typed = {filter_.name: lists.typed(query.get(filter_.name, "")) for filter_ in FILTERS}
    account_id, currency = account_of(organization.id, typed["account"])
    currency = currency or _currency(typed["currency"])
    return Search(
        organization_id=organization.id,
        now=now,
        account_id=account_id,
        reference=typed["reference"] or None,
        kind=typed["kind"] or None,
        actor=typed["actor"] or typed["by"] or None,
        effective=window_of(typed, "effective", organization.time_zone),
        recorded=window_of(typed, "recorded", organization.time_zone),
        amount_min=_amount(typed["amount_from"], currency),
        amount_max=_amount(typed["amount_to"], currency),
        currency=currency,
    )


def _bounded(search: Search, *, zone: str) -> Asked:
    """Return the search with a window, where it asks for an amount and names nothing narrower."""
    if not search.has_amount or search.account_id is not None or search.reference is not None:
        return Asked(search)
    most = timedelta(days=AMOUNT_DAYS)
    if any(_is_within(window, most) for window in (search.effective, search.recorded)):
        return Asked(search)
    ends_at = search.effective.ends_at or search.now
    starts_at = max(search.effective.starts_at or ends_at - most, ends_at - most)
    return Asked(
        replace(search, effective=Window(starts_at, search.effective.ends_at)),
        f"Amounts are looked for on one account, or in {AMOUNT_DAYS} days: here from"
        f" {day_of(instant=starts_at, zone=zone):%d %b %Y} on.",
    )


def _is_within(window: Window, most: timedelta) -> bool:
    if window.starts_at is None or window.ends_at is None:
        return False
    # A day more: one of a month may be of 25 hours.
    return window.ends_at - window.starts_at <= most + timedelta(hours=1)


def account_of(organization_id: UUID, text: str) -> tuple[UUID | None, str | None]:
    """Return the account that is meant and its currency, or none where none is named."""
    if not text:
        return None, None
    rows = queries.accounts(organization_id=organization_id)
    try:
        found = rows.filter(id=decode_id("la", text)).first()
    except Refusal:
        found = rows.filter(code=text).first()
    if found is None:
        msg = f"There is no account {text} in these books."
        raise NotReadable(msg)
    return found.id, found.currency


def _currency(text: str) -> str | None:
    if text and text.upper() not in EXPONENTS:
        msg = f"{text} is no currency."
        raise NotReadable(msg)
    return text.upper() or None


def _amount(text: str, currency: str | None) -> int | None:
    if not text:
        return None
    if currency is None:
        raise NotReadable("An amount is of a currency, or of an account: name one of them.")
    try:
        amount = minor_from_decimal(text, currency)
    except ValueError as error:
        raise NotReadable(str(error)) from error
    if not 0 < amount <= AMOUNT_MAX:
        raise NotReadable("An amount is more than zero; both sides of an entry are looked at.")
    return amount


def window_of(typed: Mapping[str, str], clock: str, zone: str) -> Window:
    first, last = _day(typed[f"{clock}_from"]), _day(typed[f"{clock}_until"])
    window = Window(
        day_bounds(day=first, zone=zone)[0] if first else None,
        day_bounds(day=last, zone=zone)[1] if last else None,
    )
    if window.starts_at and window.ends_at and window.starts_at >= window.ends_at:
        raise NotReadable("The last day is not before the first.")
    return window


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        day = date.min
    if not YEAR_MIN <= day.year <= YEAR_MAX:
        msg = f"{text} is no day such as 2026-06-30."
        raise NotReadable(msg)
    return day


# --- Places in a URL ----------------------------------------------------------------------------


def printed(place: Place | None) -> str:
    """Return a place as a URL carries it; empty for none."""
    return base64.urlsafe_b64encode(place.to_bytes()).decode().rstrip("=") if place else ""


def place_of(text: str, search: Search) -> Place | None:
    """Read a place of this search; what is none shows the first page."""
    try:
        place = Place.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, OverflowError):
        return None
    instant = place.instant
    # A URL is anybody's to write: the year is one that leaves room for steps in time.
    is_ours = place.order == search.order and instant.tzinfo and instant.year <= YEAR_MAX
    return place if is_ours else None
