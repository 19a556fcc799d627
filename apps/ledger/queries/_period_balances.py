"""The trial balance of a month: the one stored with its close, or as it stands by now."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, TypedDict, Unpack
from uuid import UUID

from django.db import connection

from apps.ledger.models import Period
from apps.ledger.queries._periods import PeriodView
from apps.ledger.queries._trial_balance import (
    AccountMovement,
    CurrencyTotal,
    Narrowed,
    movements_from,
    total_of,
    totals_between,
)

_STORED: Final = """
      FROM ledger_account a
      JOIN ledger_period_balance b
        ON b.organization_id = a.organization_id AND b.account_id = a.id
       AND b.month = %(month)s AND b.closing = %(closing)s
     WHERE a.organization_id = %(org)s
       AND (%(branch)s = '' OR a.code = %(branch)s OR starts_with(a.code, %(below)s))
       AND (%(currency)s = '' OR a.currency = %(currency)s)
"""
_EACH: Final = f"""
    SELECT a.id, a.code, a.type, a.currency, b.opening_minor AS opening,
           b.debits_minor AS debits, b.credits_minor AS credits
    {_STORED}
"""
_LINES: Final = f"{_EACH} AND a.code >= %(start)s ORDER BY a.code LIMIT %(count)s"
_LINES_BACK: Final = f"{_EACH} AND a.code <= %(start)s ORDER BY a.code DESC LIMIT %(count)s"
_TOTALS: Final = f"""
    SELECT a.currency, SUM(b.opening_minor), SUM(b.debits_minor), SUM(b.credits_minor)
    {_STORED} GROUP BY a.currency ORDER BY a.currency
"""


class _Span(TypedDict):
    organization_id: UUID
    since: datetime
    until: datetime


def movements_of(
    view: PeriodView, *, start: str, count: int, back: bool = False, **narrowed: Unpack[Narrowed]
) -> list[AccountMovement]:
    """
    Return lines of a month's trial balance: of the one stored with its close, or as of now.

    The first `count` from the code `start` on; `back`: down from it.
    """
    if (stored := _stored(view)) is not None:
        statement = _LINES_BACK if back else _LINES
        rows = _read(statement, stored, start=start, count=count, **narrowed)
        return [AccountMovement(*row) for row in rows]
    return movements_from(**_span(view), start=start, count=count, back=back, **narrowed)


def totals_of(view: PeriodView, **narrowed: Unpack[Narrowed]) -> list[CurrencyTotal]:
    """Return the sums of the same lines per currency, in the order of currencies."""
    if (stored := _stored(view)) is not None:
        rows = _read(_TOTALS, stored, **narrowed)
        return [total_of(of, *map(int, sums)) for of, *sums in rows]
    return totals_between(**_span(view), **narrowed)


def _stored(view: PeriodView) -> Period | None:
    """Return the month's row, if its trial balance was stored with its close."""
    return view.row if view.is_stored else None


def _span(view: PeriodView) -> _Span:
    return {
        "organization_id": view.organization_id,
        "since": view.starts_at,
        "until": view.ends_at,
    }


def _read(
    statement: str,
    period: Period,
    *,
    start: str = "",
    count: int | None = None,
    code_prefix: str = "",
    currency: str = "",
) -> Sequence[tuple[Any, ...]]:
    values = _values(period, start=start, count=count, code_prefix=code_prefix, currency=currency)
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
    return rows


def stored_statement(period: Period, **narrowed: Unpack[Narrowed]) -> tuple[str, dict[str, Any]]:
    """Return a SELECT of what was stored of each account with a close, and its values."""
    return _EACH, _values(period, start="", count=None, **narrowed)


def _values(
    period: Period, *, start: str, count: int | None, code_prefix: str = "", currency: str = ""
) -> dict[str, Any]:
    branch = code_prefix.rstrip(":")
    return {
        "org": period.organization_id,
        "month": period.month,
        "closing": period.closings,
        "start": start,
        "count": count,
        "branch": branch,
        "below": f"{branch}:",
        "currency": currency,
    }
