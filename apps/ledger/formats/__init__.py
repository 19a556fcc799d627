"""The journal as other tools read it. Pure: records in, lines of text out."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from apps.ledger.formats import beancount, tables
from apps.ledger.formats.records import AccountRecord, EntryRecord, LegRecord

type Writer = Callable[[Iterable[AccountRecord], Iterable[EntryRecord]], Iterator[str]]

WRITERS: Final[dict[str, Writer]] = {
    "beancount": beancount.write,
    "csv": tables.write_csv,
    "jsonl": tables.write_jsonl,
}

__all__ = ["WRITERS", "AccountRecord", "EntryRecord", "LegRecord", "Writer"]
