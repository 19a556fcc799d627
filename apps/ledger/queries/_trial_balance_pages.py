"""A page of the trial balance with its totals: the page's own lines, and sums Postgres made."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from apps.core import transactions
from apps.ledger.queries._history import Clock
from apps.ledger.queries._pages import Cut, PageAsked, cut_lines
from apps.ledger.queries._period_balances import movements_of, totals_of
from apps.ledger.queries._periods import PeriodView, view_period
from apps.ledger.queries._trial_balance import (
    AccountMovement,
    CurrencyTotal,
    movements_from,
    totals_between,
)


@dataclass(frozen=True, slots=True)
class MovementPage(Cut[AccountMovement]):
    """A page's lines, and the sums over every line there is."""

    totals: Sequence[CurrencyTotal]


def page_until(
    *, organization_id: UUID, until: datetime, ask: PageAsked, clock: Clock = "effective"
) -> MovementPage | None:
    """
    Return a page of what had moved before `until` (exclusive), all of it as of one instant.

    By `recorded` it is what the books said then. None if a cursor's account has no line there.
    """

    def lines_from(start: str, count: int, *, back: bool = False) -> list[AccountMovement]:
        return movements_from(
            organization_id=organization_id,
            since=None,
            until=until,
            start=start,
            count=count,
            back=back,
            clock=clock,
            **ask.narrowed,
        )

    with transactions.snapshot():
        page = cut_lines(organization_id, ask, lines_from)
        if page is None:
            return None
        totals = totals_between(
            organization_id=organization_id, since=None, until=until, clock=clock, **ask.narrowed
        )
    return MovementPage(page.lines, page.has_previous, page.has_more, totals)


def page_of_period(
    *, organization_id: UUID, month: date, ask: PageAsked
) -> tuple[PeriodView, MovementPage | None]:
    """Return a month and a page of its trial balance in the same way."""
    with transactions.snapshot():
        view = view_period(organization_id=organization_id, month=month)

        def lines_from(start: str, count: int, *, back: bool = False) -> list[AccountMovement]:
            return movements_of(view, start=start, count=count, back=back, **ask.narrowed)

        page = cut_lines(organization_id, ask, lines_from)
        if page is None:
            return view, None
        totals = totals_of(view, **ask.narrowed)
    return view, MovementPage(page.lines, page.has_previous, page.has_more, totals)
