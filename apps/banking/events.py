"""Events of banking. Names, texts and account numbers stay out of them."""

from dataclasses import dataclass
from typing import ClassVar

from apps.core.events import Event


@dataclass(frozen=True, kw_only=True)
class BankFileImported(Event):
    """A file was read and taken; `new_lines` of its `lines` were not known before."""

    name: ClassVar[str] = "banking.bank_file.imported"
    aggregate_type: ClassVar[str] = "bank_file"
    read_scope: ClassVar[str] = "bank_files:read"
    example: ClassVar[dict[str, object]] = {
        "id": "bf_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "kind": "camt.053",
        "statements": 1,
        "lines": 214,
        "new_lines": 214,
    }

    id: str
    kind: str
    "What the file is, such as `camt.053`."
    statements: int
    "How many bank statements it holds."
    lines: int
    "How many booked lines it holds."
    new_lines: int
    "How many of them were not known before."


@dataclass(frozen=True, kw_only=True)
class BankFileRefused(Event):
    """A file was refused whole; nothing of it was taken."""

    name: ClassVar[str] = "banking.bank_file.refused"
    aggregate_type: ClassVar[str] = "bank_file"
    read_scope: ClassVar[str] = "bank_files:read"
    example: ClassVar[dict[str, object]] = {
        "id": "bf_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "reason": "balance_does_not_add_up",
    }

    id: str
    reason: str
