"""Events of banking. Names, texts and account numbers stay out of them."""

from dataclasses import dataclass
from typing import ClassVar

from apps.core.events import Event


@dataclass(frozen=True, kw_only=True)
class BankFileImported(Event):
    """A file was read and taken; `new_lines` of its `lines` were not known before."""

    name: ClassVar[str] = "banking.bank_file.imported"
    aggregate_type: ClassVar[str] = "bank_file"

    id: str
    kind: str
    statements: int
    lines: int
    new_lines: int


@dataclass(frozen=True, kw_only=True)
class BankFileRefused(Event):
    """A file was refused whole; nothing of it was taken."""

    name: ClassVar[str] = "banking.bank_file.refused"
    aggregate_type: ClassVar[str] = "bank_file"

    id: str
    reason: str
