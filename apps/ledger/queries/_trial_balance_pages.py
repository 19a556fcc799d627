"""A page of the trial balance with its totals: the page's own lines, and sums Postgres made."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from apps.core import transactions
from apps.ledger.queries._pages import PageAsked, lines_behind
from apps.ledger.queries._period_balances import movements_of_from, totals_of
from apps.ledger.queries._periods import PeriodView, view_period
from apps.ledger.queries._trial_balance import (
    AccountMovement,
    CurrencyTotal,
    movements_from,
    totals_between,
)


@dataclass(frozen=True, slots=True)
class MovementPage:
    """A page's lines, whether more come after them, and the sums over every line there is."""

    lines: Sequence[AccountMovement]
    has_more: bool
    totals: Sequence[CurrencyTotal]


def page_until(*, organization_id: UUID, until: datetime, ask: PageAsked) -> MovementPage | None:
    """
    Return a page of what had moved before `until` (exclusive), all of it as of one instant.

    None if `after` has no line there.
    """

    def lines_from(start: str, count: int) -> list[AccountMovement]:
        return movements_from(
            organization_id=organization_id,
            since=None,
            until=until,
            start=start,
            count=count,
            **ask.narrowed,
        )

    with transactions.snapshot():
        found = lines_behind(organization_id, ask, lines_from)
        if found is None:
            return None
        totals = totals_between(
            organization_id=organization_id, since=None, until=until, **ask.narrowed
        )
    return _page(found, ask, totals)


def page_of_period(
    *, organization_id: UUID, month: date, ask: PageAsked
) -> tuple[PeriodView, MovementPage | None]:
    """Return a month and a page of its trial balance in the same way."""
    with transactions.snapshot():
        view = view_period(organization_id=organization_id, month=month)

        def lines_from(start: str, count: int) -> list[AccountMovement]:
            return movements_of_from(view, start=start, count=count, **ask.narrowed)

        found = lines_behind(organization_id, ask, lines_from)
        if found is None:
            return view, None
        totals = totals_of(view, **ask.narrowed)
    return view, _page(found, ask, totals)


def _page(
    found: list[AccountMovement], ask: PageAsked, totals: Sequence[CurrencyTotal]
) -> MovementPage:
    return MovementPage(found[: ask.limit], len(found) > ask.limit, totals)
