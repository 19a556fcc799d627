"""A trial balance as CSV: a head, its lines with their sums, and how many rows, or it is cut."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Final

from apps.core.money import decimal_text
from apps.core.text import mask_ibans
from apps.core.wall_clock import print_instant
from apps.ledger.formats.tables import escape_formula, quoted_row
from apps.ledger.rules import AccountType

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
    column says which a row is. Unless it is of a branch alone, the balance sheet follows that sum:
    a `section` for each type of account, and the `result`, which is income and expenses together.
    They are signed as the lines are, so a profit is a credit; of now each is on one side, by what
    it comes to. Account numbers in codes are masked, as on the screen. The last line counts the
    rows: a file without it broke off.
    """
    yield quoted_row(
        "trial balance", head.organization, "month", head.month or "now", "state", head.state,
        "closing", head.closing or "",
    )  # fmt: skip
    yield quoted_row(
        "branch", escape_formula(mask_ibans(head.branch)),
        "currency", escape_formula(head.currency), "as of", print_instant(head.as_of),
    )  # fmt: skip
    columns = _OF_MONTH if head.month else _OF_NOW
    minor = [f"{name}_minor" for name in columns]
    yield quoted_row("row", "account", "type", "accounts", *columns, "currency", *minor)
    count = 0
    for kind, row in _with_sums(lines, is_of_month=bool(head.month), has_sheet=not head.branch):
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


def _with_sums(
    lines: Iterable[TrialRow], *, is_of_month: bool, has_sheet: bool
) -> Iterator[tuple[str, TrialRow]]:
    for currency, own in groupby(lines, lambda line: line.currency):
        total = TrialRow("", "", 0, currency, 0, 0, 0)
        sections = {type_.value: replace(total, type=type_.value) for type_ in AccountType}
        for root, of_root in groupby(own, lambda line: line.root):
            several, subtotal = 0, TrialRow(root, "", 0, currency, 0, 0, 0)
            for line in of_root:
                yield "line", line
                several, subtotal = several + 1, _added(subtotal, line)
                sections[line.type] = _added(sections[line.type], line)
            if is_of_month and several > 1:
                yield "subtotal", subtotal
            total = _added(total, subtotal)
        yield "sum", total
        for kind, row in _sheet(sections) if has_sheet else ():
            yield kind, row if is_of_month else _on_one_side(row)


def _sheet(sections: Mapping[str, TrialRow]) -> Iterator[tuple[str, TrialRow]]:
    for section in sections.values():
        yield "section", section
    result = _added(sections[AccountType.INCOME], sections[AccountType.EXPENSE])
    yield "result", replace(result, type="")


def _on_one_side(row: TrialRow) -> TrialRow:
    net = row.debits - row.credits
    return replace(row, debits=max(net, 0), credits=max(-net, 0))


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
