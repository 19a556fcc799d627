"""The journal as CSV, a row per posting; and how the fields of our CSV files are written."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import Final

from apps.core.money import decimal_text
from apps.ledger.formats.records import AccountRecord, EntryRecord

_HEADER: Final = (
    "entry", "kind", "reference", "description", "effective_at", "recorded_at",
    "account", "amount_minor", "amount", "currency",
)  # fmt: skip
# Behind whatever blank or quote; full-width forms are formulas too.
_FORMULA: Final = re.compile("[\\s\"']*(?:[=+@＝＋－＠-]|[\t\r\n])")  # noqa: RUF001


def escape_formula(text: str) -> str:
    """Return the text with an apostrophe in front where a spreadsheet would run it."""
    return f"'{text}" if _FORMULA.match(text) else text


def quoted_row(*values: object) -> str:
    """Return a row of CSV (RFC 4180), every field in quotes."""
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerow(values)
    return buffer.getvalue()


def write_csv(_accounts: Iterable[AccountRecord], entries: Iterable[EntryRecord]) -> Iterator[str]:
    """Yield CSV rows (RFC 4180), a posting each."""
    yield _row(_HEADER)
    for entry in entries:
        for leg in entry.legs:
            yield _row(
                (
                    entry.id,
                    escape_formula(entry.kind),
                    escape_formula(entry.reference),
                    escape_formula(entry.description),
                    entry.effective_at.astimezone(UTC).isoformat(),
                    entry.recorded_at.astimezone(UTC).isoformat(),
                    leg.code,
                    leg.amount_minor,
                    decimal_text(leg.amount_minor, leg.currency),
                    leg.currency,
                )
            )


def _row(values: Iterable[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(values)
    return buffer.getvalue()
