"""What a page of a statement by business time reads: all of its account, or some days of it."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from apps.ledger.models import Posting
from apps.ledger.queries import _history_sql as sql
from apps.ledger.queries._chosen_accounts import LedgerAccounts
from apps.ledger.queries._history import REACH, recorded_marks

# How many versions are read at once, unless the account moved more often in a day.
SLICE: Final = 20_000

_DAY: Final = timedelta(days=1)

_WHOLE: Final = """
    line AS (
        SELECT p.entry_id, p.amount_minor, p.account_version, p.effective_at, p.recorded_at
          FROM ledger_posting p
         WHERE p.organization_id = %(org)s AND p.account_id = %(account)s
           AND p.account_version > %(low)s AND p.account_version <= %(high)s
           AND p.effective_at >= %(since)s AND p.effective_at < %(until)s
    )
"""
_SLICE: Final = """
    displaced AS MATERIALIZED (
        SELECT p.account_id, p.entry_id, p.amount_minor, p.account_version, p.effective_at,
               p.recorded_at
          FROM ledger_posting p
         WHERE p.organization_id = %(org)s AND {is_displaced}
           AND p.effective_at >= %(since)s AND p.effective_at < %(until)s
    ), line AS (
        SELECT p.entry_id, p.amount_minor, p.account_version, p.effective_at, p.recorded_at
          FROM ledger_posting p
         WHERE p.organization_id = %(org)s AND p.account_id = %(account)s
           AND p.account_version > %(low)s AND p.account_version <= %(high)s AND {is_near}
           AND p.effective_at >= %(since)s AND p.effective_at < %(until)s
         UNION ALL
        SELECT p.entry_id, p.amount_minor, p.account_version, p.effective_at, p.recorded_at
          FROM displaced p
         WHERE p.account_id = %(account)s AND p.account_version <= %(newest)s
    )
"""


class Slice(NamedTuple):
    """Versions to look at (low exclusive) for all that is effective from `since` to `until`."""

    statement: str
    low: int
    high: int
    since: datetime
    until: datetime


def slice_after(accounts: LedgerAccounts, version: int, since: datetime, until: datetime) -> Slice:
    """
    Return what to read from `since` on: whole where an account is small, else a day or more.

    What was posted after `version` is in none.
    """
    if version <= SLICE:
        return Slice(_WHOLE, 0, version, since, until)
    day = min(since + _DAY, until)
    low, high = _versions_near(accounts, version, since, day)
    statement = sql.filled(_SLICE)
    if high >= low + SLICE:
        return Slice(statement, low, high, since, day)
    if version <= low + SLICE:
        return Slice(statement, low, version, since, until)
    recorded_at = _recorded_at(accounts, low + SLICE)
    # Whatever is effective before this, and not in the index of the displaced, has a lower version.
    end = min(max(recorded_at - REACH, day), until)
    return Slice(statement, low, low + SLICE, since, end)


def slice_before(accounts: LedgerAccounts, version: int, since: datetime, until: datetime) -> Slice:
    """Return what to read up to `until`, which is as much as `slice_after` reads of its end."""
    if version <= SLICE:
        return Slice(_WHOLE, 0, version, since, until)
    day = max(until - _DAY, since)
    low, high = _versions_near(accounts, version, day, until)
    statement = sql.filled(_SLICE)
    if high >= low + SLICE:
        return Slice(statement, low, high, day, until)
    if high <= SLICE:
        return Slice(statement, 0, high, since, until)
    recorded_at = _recorded_at(accounts, high - SLICE)
    # Whatever is effective from this on, and not in the index of the displaced, has a higher one.
    start = max(min(recorded_at + REACH, day), since)
    return Slice(statement, high - SLICE, high, start, until)


def _versions_near(
    accounts: LedgerAccounts, version: int, since: datetime, until: datetime
) -> tuple[int, int]:
    """
    Return between which versions (low exclusive) all lies that is effective then and near.

    Neither is above `version`.
    """
    marks = recorded_marks(accounts, instants=[since - REACH, until + REACH])
    low, high = (min(mark.get(accounts.rows[0][0], (0, 0))[0], version) for mark in marks)
    return low, high


def _recorded_at(accounts: LedgerAccounts, version: int) -> datetime:
    rows = Posting.objects.filter(
        organization_id=accounts.organization_id,
        account_id=accounts.rows[0][0],
        account_version=version,
    )
    return rows.values_list("recorded_at", flat=True).get()
