"""
The journal as other tools read it. Pure: records in, lines of text out.

What Kassa itself reads back is another thing, complete and in the order of the chain: `journal`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from apps.ledger.formats import beancount, hledger, tables
from apps.ledger.formats.records import AccountRecord, EntryRecord, LegRecord

type Writer = Callable[[Iterable[AccountRecord], Iterable[EntryRecord]], Iterator[str]]

WRITERS: Final[dict[str, Writer]] = {
    "beancount": beancount.write,
    "csv": tables.write_csv,
    "hledger": hledger.write,
}

__all__ = ["WRITERS", "AccountRecord", "EntryRecord", "LegRecord", "Writer"]
