"""
The journal in hledger's language, with balance assertions at its end.

hledger adds the postings up itself and compares with ours (https://hledger.org/hledger.html,
sections Directives, Transactions, Balance assertions). Positive is debit, as here.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, timedelta
from typing import Final

from apps.core.money import decimal_text
from apps.ledger.formats.records import AccountRecord, EntryRecord

_ROOTS: Final = {
    "asset": ("assets", "A"),
    "liability": ("liabilities", "L"),
    "equity": ("equity", "E"),
    "income": ("revenues", "R"),
    "expense": ("expenses", "X"),
}


def account_name(code: str, type_: str) -> str:
    """Return hledger's name: `customers:cus_1:EUR` is `liabilities:customers:cus_1:EUR`."""
    return f"{_ROOTS[type_][0]}:{code}"


def write(accounts: Iterable[AccountRecord], entries: Iterable[EntryRecord]) -> Iterator[str]:
    """Yield the file line by line, each with its line end; entries are not held in memory."""
    listed = list(accounts)
    yield "; Kassa\ndecimal-mark .\n"
    for currency in sorted({account.currency for account in listed}):
        # A sample of the currency's decimals; without a mark hledger would guess.
        sample = decimal_text(0, currency)
        yield f"commodity {sample if '.' in sample else sample + '.'} {currency}\n"
    for account in listed:
        yield f"account {account_name(account.code, account.type)}"
        yield f"  ; type: {_ROOTS[account.type][1]}\n"
    last = date.min
    for entry in entries:
        last = max(last, entry.effective_at.astimezone(UTC).date())
        yield from _entry(entry)
    if last == date.min:
        return
    # Assertions are checked in the order of dates: after every entry, on the day after the last.
    yield f"\n{last + timedelta(days=1)} * balances\n"
    for account in listed:
        amount = decimal_text(account.net_minor, account.currency)
        name = account_name(account.code, account.type)
        yield f"    {name}  0 {account.currency} = {amount} {account.currency}\n"


def _entry(entry: EntryRecord) -> Iterator[str]:
    day = entry.effective_at.astimezone(UTC).date()
    # The id as hledger's transaction code: so a description may begin with what it likes.
    yield f"\n{day} * ({entry.id}) {_text(entry.kind)}: {_text(entry.description)}\n"
    if entry.reference:
        yield f"    ; reference: {_text(entry.reference)}\n"
    for leg in entry.legs:
        amount = decimal_text(leg.amount_minor, leg.currency)
        yield f"    {account_name(leg.code, leg.type)}  {amount} {leg.currency}\n"


def _text(value: str) -> str:
    # A semicolon would begin a comment, and every kind of line end a new line.
    return " ".join(value.replace(";", ",").split())
