"""The lane along an account's versions (`_search`)."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from apps.ledger.models import Balance, MonthlyTotal, Posting
from apps.ledger.queries import _bounds as bounds
from apps.ledger.queries._matching import matching_postings, named_entries
from apps.ledger.queries._search import Ask, Place, Scanned, Search

# Servers' clocks differ by seconds (`rules.CLOCK_SKEW`). All that lies in this is gone through: of
# an hour it would be millions on a busy account.
_STEP_BACK: Final = timedelta(minutes=1)

_FIRST_VERSION_SINCE: Final = """
    WITH RECURSIVE search(low, high) AS (
        SELECT 1::bigint, version + 1
          FROM ledger_balance WHERE organization_id = %(org)s AND id = %(account)s
        UNION ALL
        SELECT CASE WHEN p.recorded_at < %(at)s THEN m.middle + 1 ELSE s.low END,
               CASE WHEN p.recorded_at < %(at)s THEN s.high ELSE m.middle END
          FROM search AS s
          CROSS JOIN LATERAL (SELECT (s.low + s.high) / 2 AS middle) AS m
          JOIN ledger_posting AS p
            ON p.organization_id = %(org)s AND p.account_id = %(account)s
           AND p.account_version = m.middle
         WHERE s.low < s.high
    )
    SELECT low FROM search WHERE low = high
"""


def scan_account(search: Search, account_id: UUID, ask: Ask) -> Scanned:
    """
    Follow an account's postings by their versions, which have no gaps.

    A portion of `SCAN_ROWS_MAX` is a range of them; the search ends with the one that takes it
    past its patience.
    """
    rows = matching_postings(search).filter(account_id=account_id)
    is_long = search.kind is not None and _last_version(search, account_id) > bounds.SCAN_ROWS_MAX
    named = named_entries(search, or_kind=is_long)
    if named is not None:
        rows = rows.filter(entry_id__in=named)
        if ask.place is not None:
            name = "account_version__gt" if ask.newer else "account_version__lt"
            rows = rows.filter(**{name: ask.place.version})
        return Scanned(_versions(rows, ask))
    deadline = time.monotonic() + bounds.PATIENCE_SECONDS
    places: list[Place] = []
    spans = _spans(_version_ranges(search, account_id), ask)
    for span in spans:
        places += _versions(rows.filter(account_version__range=span), ask)
        if len(places) > ask.limit:
            break
        if time.monotonic() > deadline and next(spans, None) is not None:
            edge = span[1] if ask.newer else span[0]
            return Scanned(places, Place("account_version", version=edge))
    return Scanned(places)


def _versions(rows: QuerySet[Posting], ask: Ask) -> list[Place]:
    rows = rows.order_by("account_version" if ask.newer else "-account_version")
    found = rows.values_list("account_version", "entry_id", "number")
    return [
        Place("account_version", version=version, entry_id=entry_id, number=number)
        for version, entry_id, number in found[: ask.limit + 1]
    ]


def _spans(ranges: Sequence[tuple[int, int]], ask: Ask) -> Iterator[tuple[int, int]]:
    """Yield what of these ranges lies ahead of the asked place, a portion at a time."""
    place = ask.place
    for low, high in ranges if ask.newer else reversed(ranges):
        first = max(low, place.version + 1) if place is not None and ask.newer else low
        last = min(high, place.version - 1) if place is not None and not ask.newer else high
        if ask.newer:
            for start in range(first, last + 1, bounds.SCAN_ROWS_MAX):
                yield start, min(start + bounds.SCAN_ROWS_MAX - 1, last)
        else:
            for end in range(last, first - 1, -bounds.SCAN_ROWS_MAX):
                yield max(end - bounds.SCAN_ROWS_MAX + 1, first), end


def _version_ranges(search: Search, account_id: UUID) -> list[tuple[int, int]]:
    """
    Return the ranges of versions, ascending, outside which no posting lies in the windows.

    Versions follow the server's clock, so a window of it is found by bisection, wider on both sides
    by as much as that steps back where it is set right. A window of business time is narrowed by
    the totals of its months; what is not sealed yet has no totals.
    """
    first, last = 1, _last_version(search, account_id)
    if search.recorded.starts_at is not None:
        starts_at = search.recorded.starts_at - _STEP_BACK
        first = _first_version_since(search, account_id, starts_at)
    if search.recorded.ends_at is not None:
        ends_at = search.recorded.ends_at + _STEP_BACK
        last = _first_version_since(search, account_id, ends_at) - 1
    ranges = [(first, last)] if search.effective.is_open else _effective_ranges(search, account_id)
    return [
        (max(low, first), min(high, last))
        for low, high in ranges
        if max(low, first) <= min(high, last)
    ]


def _last_version(search: Search, account_id: UUID) -> int:
    return (
        Balance.objects.filter(organization_id=search.organization_id, id=account_id)
        .values_list("version", flat=True)
        .first()
        or 0
    )


def _first_version_since(search: Search, account_id: UUID, instant: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            _FIRST_VERSION_SINCE,
            {"org": search.organization_id, "account": account_id, "at": instant},
        )
        row = cursor.fetchone()
        return int(row[0]) if row else 1


def _effective_ranges(search: Search, account_id: UUID) -> list[tuple[int, int]]:
    by_month = Q(clock="effective")
    window = search.effective
    if window.starts_at is not None:
        by_month &= Q(month__gte=window.starts_at.astimezone(UTC).date().replace(day=1))
    if window.ends_at is not None:
        by_month &= Q(month__lte=window.ends_at.astimezone(UTC).date())
    # One statement, so that both clocks are of one moment of the sealer.
    totals = MonthlyTotal.objects.filter(
        by_month | Q(clock="recorded"),
        organization_id=search.organization_id,
        account_id=account_id,
    ).values_list("clock", "first_version", "last_version")
    rows = list(totals)
    sealed = max((last for clock, _, last in rows if clock == "recorded"), default=0)
    spans = [(first, last) for clock, first, last in rows if clock == "effective"]
    unsealed = (sealed + 1, _last_version(search, account_id))
    if not spans:
        return [unsealed]
    return [(min(first for first, _ in spans), max(last for _, last in spans)), unsealed]
