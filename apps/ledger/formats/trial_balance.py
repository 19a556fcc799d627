"""A trial balance as CSV: a head, its lines with their sums, and how many rows, or it is cut."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final

from apps.core.money import decimal_text
from apps.core.text import mask_ibans
from apps.ledger.formats.tables import escape_formula, instant_text, quoted_row

# Of now an account stands on one side; a month opens, moves and closes.
_OF_NOW: Final = ("debit", "credit")
_OF_MONTH: Final = ("opening", "debits", "credits", "closing")


@dataclass(frozen=True, slots=True)
class TrialHead:
    """
    What the trial balance is of: a month, or now where there is none.

    `closing` is the number of the closing that stored it, 0 where it was read from the books.
    """

    organization: str
    month: str
    state: str
    closing: int
    branch: str
    currency: str
    as_of: datetime


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One line, in minor units; `opening` is debits less credits, of now it is 0."""

    code: str
    type: str
    accounts: int
    currency: str
    opening: int
    debits: int
    credits: int

    @property
    def root(self) -> str:
        return self.code.split(":", maxsplit=1)[0]


def write_trial_balance(head: TrialHead, lines: Iterable[TrialRow]) -> Iterator[str]:
    """
    Yield a trial balance as CSV (RFC 4180), every field in quotes.

    The lines come by currency, and those of a first segment together. After those of a month's
    segment stands what several of them come to, after those of a currency their sum: the first
    column says which a row is. Account numbers in codes are masked, as on the screen. The last line
    counts the rows: a file without it broke off.
    """
    yield quoted_row(
        "trial balance", head.organization, "month", head.month or "now", "state", head.state,
        "closing", head.closing or "",
    )  # fmt: skip
    yield quoted_row(
        "branch", escape_formula(mask_ibans(head.branch)),
        "currency", escape_formula(head.currency), "as of", instant_text(head.as_of),
    )  # fmt: skip
    columns = _OF_MONTH if head.month else _OF_NOW
    minor = [f"{name}_minor" for name in columns]
    yield quoted_row("row", "account", "type", "accounts", *columns, "currency", *minor)
    count = 0
    for kind, row in _with_sums(lines, has_subtotals=bool(head.month)):
        amounts = _amounts(row) if head.month else (row.debits, row.credits)
        yield quoted_row(
            kind,
            escape_formula(mask_ibans(row.code)),
            row.type,
            row.accounts,
            *(decimal_text(amount, row.currency) for amount in amounts),
            row.currency,
            *amounts,
        )
        count += 1
    yield quoted_row("rows", count)


def _with_sums(lines: Iterable[TrialRow], *, has_subtotals: bool) -> Iterator[tuple[str, TrialRow]]:
    for currency, own in groupby(lines, lambda line: line.currency):
        total = TrialRow("", "", 0, currency, 0, 0, 0)
        for root, of_root in groupby(own, lambda line: line.root):
            several, subtotal = 0, TrialRow(root, "", 0, currency, 0, 0, 0)
            for line in of_root:
                yield "line", line
                several, subtotal = several + 1, _added(subtotal, line)
            if has_subtotals and several > 1:
                yield "subtotal", subtotal
            total = _added(total, subtotal)
        yield "sum", total


def _added(one: TrialRow, other: TrialRow) -> TrialRow:
    return TrialRow(
        one.code,
        one.type,
        one.accounts + other.accounts,
        one.currency,
        one.opening + other.opening,
        one.debits + other.debits,
        one.credits + other.credits,
    )


def _amounts(row: TrialRow) -> Sequence[int]:
    return (row.opening, row.debits, row.credits, row.opening + row.debits - row.credits)
