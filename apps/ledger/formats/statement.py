"""A statement of account as CSV: a head, its lines, and how many they were, or it is not whole."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from apps.core.money import decimal_text
from apps.core.text import mask_account_numbers, mask_ibans
from apps.core.wall_clock import print_instant
from apps.ledger.formats.tables import escape_formula, quoted_row

_COLUMNS: Final = (
    "business_time", "recorded", "kind", "reference", "description", "entry",
    "amount", "balance", "currency", "amount_minor", "balance_minor",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StatementHead:
    """What the statement is of; `until` is exclusive, balances are on the normal side."""

    code: str
    currency: str
    clock: str
    kind: str
    since: datetime
    until: datetime
    as_of: datetime
    opening_minor: int
    closing_minor: int


@dataclass(frozen=True, slots=True)
class StatementRow:
    """One line; amount and balance in minor units, on the normal side."""

    entry: str
    kind: str
    reference: str
    description: str
    effective_at: datetime
    recorded_at: datetime
    amount_minor: int
    balance_minor: int


def write_statement(head: StatementHead, rows: Iterable[StatementRow]) -> Iterator[str]:
    """
    Yield a statement as CSV (RFC 4180), every field in quotes.

    Texts that a spreadsheet would run get an apostrophe in front; numbers stay numbers. Account
    numbers in a code, reference or description are masked, as on the screen (backoffice.md,
    section 8). The last line counts the rows: a file without it broke off.
    """
    yield quoted_row(
        "statement", escape_formula(mask_ibans(head.code)), "clock", head.clock,
        "kind", escape_formula(head.kind),
    )  # fmt: skip
    yield quoted_row(
        "from",
        print_instant(head.since),
        "until",
        print_instant(head.until),
        "as of",
        print_instant(head.as_of),
    )
    yield quoted_row("opening", *_money(head.opening_minor, head.currency))
    yield quoted_row("closing", *_money(head.closing_minor, head.currency))
    yield quoted_row(*_COLUMNS)
    count = 0
    for row in rows:
        yield quoted_row(
            print_instant(row.effective_at),
            print_instant(row.recorded_at),
            escape_formula(row.kind),
            escape_formula(mask_ibans(row.reference)),
            escape_formula(mask_account_numbers(row.description)),
            row.entry,
            decimal_text(row.amount_minor, head.currency),
            decimal_text(row.balance_minor, head.currency),
            head.currency,
            row.amount_minor,
            row.balance_minor,
        )
        count += 1
    yield quoted_row("rows", count)


def _money(minor: int, currency: str) -> tuple[str, str, int]:
    return decimal_text(minor, currency), currency, minor
