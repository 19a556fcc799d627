"""
The journal in beancount's language, with balance assertions at its end.

Beancount is the independent auditor: it adds the postings up itself and compares with ours
(https://beancount.github.io/docs/beancount_language_syntax.html). Positive is debit, as here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, timedelta
from typing import Final

from apps.core.money import decimal_text
from apps.ledger.formats.records import AccountRecord, EntryRecord

_ROOTS: Final = {
    "asset": "Assets",
    "liability": "Liabilities",
    "equity": "Equity",
    "income": "Income",
    "expense": "Expenses",
}
_OPENED: Final = date.min


def account_name(code: str, type_: str) -> str:
    """Return beancount's name: `customers:cus_1:EUR` is `Liabilities:Customers:Cus-1:EUR`."""
    parts = [part.replace("_", "-") for part in code.split(":")]
    return ":".join([_ROOTS[type_], *(part[0].upper() + part[1:] for part in parts)])


def write(accounts: Iterable[AccountRecord], entries: Iterable[EntryRecord]) -> Iterator[str]:
    """Yield the file line by line, each with its line end; entries are not held in memory."""
    listed = list(accounts)
    yield 'option "title" "Kassa"\n'
    for account in listed:
        name = account_name(account.code, account.type)
        yield f"{_OPENED} open {name} {account.currency}\n"
    last = _OPENED
    for entry in entries:
        last = max(last, entry.effective_at.astimezone(UTC).date())
        yield from _entry(entry)
    # An assertion holds at the start of its day, so it stands on the day after the last entry.
    # Without a tolerance of its own it would forgive one minor unit.
    day = last + timedelta(days=1)
    sums = _sums_of_branches(listed)
    for account in listed:
        name = account_name(account.code, account.type)
        amount = decimal_text(sums[name, account.currency], account.currency)
        yield f"{day} balance {name}  {amount} ~ 0 {account.currency}\n"


def _sums_of_branches(accounts: Iterable[AccountRecord]) -> Counter[tuple[str, str]]:
    """Return by name and currency what an account and all those below it hold."""
    # An assertion of beancount's is of a whole branch, and a client's account may stand above
    # others: `wallets:ann` above `wallets:ann:saved`.
    sums: Counter[tuple[str, str]] = Counter()
    for account in accounts:
        name = account_name(account.code, account.type)
        while name:
            sums[name, account.currency] += account.net_minor
            name = name.rpartition(":")[0]
    return sums


def _entry(entry: EntryRecord) -> Iterator[str]:
    day = entry.effective_at.astimezone(UTC).date()
    yield f'\n{day} * "{_text(entry.kind)}" "{_text(entry.description)}"\n'
    yield f'  id: "{entry.id}"\n'
    if entry.reference:
        yield f'  reference: "{_text(entry.reference)}"\n'
    for leg in entry.legs:
        amount = decimal_text(leg.amount_minor, leg.currency)
        yield f"  {account_name(leg.code, leg.type)}  {amount} {leg.currency}\n"


def _text(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
