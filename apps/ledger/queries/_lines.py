"""A trial balance as people read it: accounts that differ only in ids share a line, in SQL."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Unpack
from uuid import UUID

from django.db import connection

from apps.core import streaming, transactions
from apps.ledger.queries._chosen_accounts import choose_accounts
from apps.ledger.queries._history import moved_statement
from apps.ledger.queries._period_balances import stored_statement
from apps.ledger.queries._periods import PeriodView
from apps.ledger.queries._trial_balance import BalanceSheet, Narrowed, sheet_of
from apps.ledger.rules import AccountType

# As many letters as no name of a segment has, and every id.
_ID_LENGTH_MIN: Final = 20
MORE: Final = "…"
# How many lines are in memory where they are streamed.
_CHUNK: Final = 1_000
# What all accounts of each type stand at, debits less credits: the balance sheet of the same read.
_NETS: Final = ", ".join(
    f"SUM(opening + debits - credits) FILTER (WHERE type = '{type_.value}') OVER whole"
    for type_ in AccountType
)
# Codes without their ids.
_LINES: Final = f"""
    SELECT currency, type, COUNT(*) AS accounts,
           array_to_string(ARRAY(
               SELECT CASE WHEN length(part) < {_ID_LENGTH_MIN} THEN part ELSE '*' END
                 FROM unnest(string_to_array(code, ':')) AS part), ':') COLLATE "C" AS code,
           SUM(opening) AS opening, SUM(debits) AS debits, SUM(credits) AS credits,
           any_value(id) AS one_id, any_value(code) AS one_code
      FROM ({{source}}) AS account
     GROUP BY 1, 2, 4
"""  # noqa: S608  (constants of this module)
_EACH: Final = f"""
    SELECT currency, code, type, accounts, opening, debits, credits, one_id, one_code
      FROM ({_LINES}) AS line ORDER BY currency, string_to_array(code, ':') COLLATE "C", type
"""  # noqa: S608  (constants of this module)
# A first segment of too many lines has one for each type; and of all lines of a currency the first,
# in the order of segments, with what all come to.
_GROUPED: Final = f"""
    SELECT * FROM (
        WITH line AS ({_LINES}), counted AS (
            SELECT *, COUNT(*) OVER (PARTITION BY currency, split_part(code, ':', 1)) AS beside
              FROM line
        ), folded AS (
            SELECT currency, type,
                   CASE WHEN beside > %(most_of_root)s
                        THEN split_part(code, ':', 1) || ':{MORE}' ELSE code END AS code,
                   SUM(accounts) AS accounts, SUM(opening) AS opening, SUM(debits) AS debits,
                   SUM(credits) AS credits, any_value(one_id) AS one_id,
                   any_value(one_code) AS one_code
              FROM counted GROUP BY 1, 2, 3
        )
        SELECT currency, code, type, accounts, opening, debits, credits, one_id, one_code,
               SUM(accounts) OVER whole, SUM(opening) OVER whole, SUM(debits) OVER whole,
               SUM(credits) OVER whole,
               ROW_NUMBER() OVER (PARTITION BY currency
                                  ORDER BY string_to_array(code, ':') COLLATE "C", type) AS place,
               {_NETS}
          FROM folded WINDOW whole AS (PARTITION BY currency)
    ) AS placed
     WHERE place <= %(most)s + 1 ORDER BY currency, place
"""  # noqa: S608  (constants of this module)
# By the counters as they stand: each account's net on its side.
_NOW: Final = """
    SELECT a.id, a.code, a.type, a.currency, 0 AS opening,
           GREATEST(b.posted_debits - b.posted_credits, 0) AS debits,
           GREATEST(b.posted_credits - b.posted_debits, 0) AS credits
      FROM ledger_account a
      JOIN ledger_balance b ON b.organization_id = a.organization_id AND b.id = a.id
     WHERE a.organization_id = %(org)s
       AND (%(branch)s = '' OR a.code = %(branch)s OR starts_with(a.code, %(branch)s || ':'))
       AND (%(currency)s = '' OR a.currency = %(currency)s)
       AND (b.posted_debits <> 0 OR b.posted_credits <> 0)
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """How much a person reads: lines of a currency, and of one first segment, at most."""

    lines: int
    lines_of_root: int


@dataclass(frozen=True, slots=True)
class TrialLine:
    """
    Accounts whose codes differ in ids only, or of one root (`root:…`), or all others (`…`).

    `account_id` and `account_code` are there where it is one account. Of a month `opening` is
    debits less credits; of now it is 0, and each account's net is on one side. In minor units.
    """

    code: str
    type: str
    accounts: int
    opening: int
    debits: int
    credits: int
    account_id: UUID | None = None
    account_code: str = ""

    @property
    def closing(self) -> int:
        return self.opening + self.debits - self.credits

    @property
    def root(self) -> str:
        return self.code.split(":", maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class CurrencyLines:
    """The trial balance of one currency: its lines add up to the total, by type to the sheet."""

    currency: str
    lines: Sequence[TrialLine]
    total: TrialLine
    sheet: BalanceSheet


def lines_now(
    *, organization_id: UUID, show: Shown, code_prefix: str = "", currency: str = ""
) -> list[CurrencyLines]:
    """Return what every account that ever moved stands at, whatever its entries' business times."""
    narrowed = Narrowed(code_prefix=code_prefix, currency=currency)
    return _grouped(*_source(organization_id, None, narrowed), show)


def lines_of(view: PeriodView, *, show: Shown, **narrowed: Unpack[Narrowed]) -> list[CurrencyLines]:
    """
    Return a month's trial balance: of one that was closed, as it was stored with its close.

    All of it is as of one instant of the database: accounts opened meanwhile are in none of it.
    """
    if view.is_stored:
        return _grouped(*_source(view.organization_id, view, narrowed), show)
    with transactions.snapshot():
        source, values = _source(view.organization_id, view, narrowed)
        return _grouped(source, values, show) if source else []


def stream_lines(
    *,
    organization_id: UUID,
    view: PeriodView | None,
    code_prefix: str = "",
    currency: str = "",
) -> Iterator[tuple[str, TrialLine]]:
    """
    Yield the lines of a month, or of now, each with its currency; no line is cut or folded away.

    Call it inside a snapshot, in which what it yields is of one instant (`core.streaming`).
    """
    narrowed = Narrowed(code_prefix=code_prefix, currency=currency)
    source, values = _source(organization_id, view, narrowed)
    if not source:
        return
    for of, *row in streaming.stream(_EACH.format(source=source), values, portion=_CHUNK):
        yield of, _line(row)


def _source(
    organization_id: UUID, view: PeriodView | None, narrowed: Narrowed
) -> tuple[str, Mapping[str, Any]]:
    """Return the SELECT of the accounts' rows and its values; an empty text where there is none."""
    if view is None:
        return _NOW, _values_now(organization_id, **narrowed)
    if view.is_stored and view.row is not None:
        return stored_statement(view.row, **narrowed)
    accounts = choose_accounts(organization_id=organization_id, **narrowed)
    if not accounts.rows:
        return "", {}
    return moved_statement(accounts, instants=[view.starts_at, view.ends_at])


def _values_now(
    organization_id: UUID, *, code_prefix: str = "", currency: str = ""
) -> dict[str, Any]:
    return {"org": organization_id, "branch": code_prefix.rstrip(":"), "currency": currency}


def _grouped(source: str, values: Mapping[str, Any], show: Shown) -> list[CurrencyLines]:
    more = {"most": show.lines, "most_of_root": show.lines_of_root}
    with connection.cursor() as cursor:
        cursor.execute(_GROUPED.format(source=source), {**values, **more})
        rows = cursor.fetchall()
    by_currency: dict[str, list[tuple[Any, ...]]] = {}
    for currency, *row in rows:
        by_currency.setdefault(currency, []).append(tuple(row))
    return [_of_currency(currency, own, show) for currency, own in by_currency.items()]


def _of_currency(currency: str, rows: Sequence[tuple[Any, ...]], show: Shown) -> CurrencyLines:
    accounts, opening, debits, credits_ = map(int, rows[0][8:12])
    total = TrialLine("", "", accounts, opening, debits, credits_)
    nets = {
        type_.value: int(net or 0) for type_, net in zip(AccountType, rows[0][13:], strict=True)
    }
    lines = [_line(row) for row in rows]
    if len(lines) > show.lines:
        # All of a root or none: it has a sum of its own.
        cut = lines[show.lines].root
        lines = [line for line in lines[: show.lines] if line.root != cut]
        lines.append(_rest(total, lines))
    return CurrencyLines(currency, lines, total, sheet_of(currency, nets))


def _line(row: Sequence[Any]) -> TrialLine:
    code, type_, accounts, opening, debits, credits_, one_id, one_code, *_ = row
    is_one = accounts == 1
    return TrialLine(
        code,
        type_,
        int(accounts),
        int(opening),
        int(debits),
        int(credits_),
        one_id if is_one else None,
        one_code if is_one else "",
    )


def _rest(total: TrialLine, shown: Sequence[TrialLine]) -> TrialLine:
    """Return what is not shown by a line of its own."""
    return TrialLine(
        MORE,
        "",
        total.accounts - sum(line.accounts for line in shown),
        total.opening - sum(line.opening for line in shown),
        total.debits - sum(line.debits for line in shown),
        total.credits - sum(line.credits for line in shown),
    )
